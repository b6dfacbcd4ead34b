"""The search in several processes: it finds what one process finds, counts all of it, and can be given up."""

import multiprocessing

import pytest

from sgdlit.theory import lr_search as module
from sgdlit.theory.noisy_quadratic import NoisyQuadratic
from sgdlit.theory.optimizers import SGD, AveragedSGD, HeavyBall

MODEL = NoisyQuadratic.power_law(30)
SEARCH = module.Search(batch_sizes=[1.0, 64.0], target=0.05, points=12, decades=4, pieces=3)
FAMILIES = {"momentum": [HeavyBall(0.5), HeavyBall(0.9)], "EMA": [AveragedSGD(0.9)], "SGD": [SGD()]}


def test_processes_find_what_one_process_finds(monkeypatch):
    seen = []
    serial = module.best_lrs_and_schedules(
        MODEL, FAMILIES, "SGD", SEARCH, lambda *counts: seen.append(counts)
    )
    assert seen[-1] == ("learning rates", 4 * 12 + 2, 4 * 12 + 2)
    monkeypatch.setattr(module, "_SMALL", 0)
    seen.clear()
    assert (
        module.best_lrs_and_schedules(MODEL, FAMILIES, "SGD", SEARCH, lambda *counts: seen.append(counts))
        == serial
    )
    assert all(done <= total == 50 for _, done, total in seen)


def test_an_interruption_ends_every_process(monkeypatch):
    monkeypatch.setattr(module, "_SMALL", 0)

    def interrupt(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.best_lrs_and_schedules(MODEL, FAMILIES, "SGD", SEARCH, interrupt)
    assert not multiprocessing.active_children()
