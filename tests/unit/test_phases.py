"""Schedules in phases, against torch's own schedules and closed forms; and the length of the run."""

import math
from types import SimpleNamespace

import pytest
import torch
from cases import FINITE_SETS
from fine_tuning import BASE, write_own_arrays
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

import sgdlit
from sgdlit.foundations.errors import UserError
from sgdlit.training.phases import Phase, Phases, run_length

WARM_UP_AND_COSINE = [Phase("linear", 0.1, 1.0, steps=5), Phase("cosine", end=0.0)]


def optimizer(*rates):
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def rates(schedule, steps):
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in schedule.optimizer.param_groups])
        schedule.optimizer.step()
        schedule.step()
    return found


def test_warm_up_then_cosine_is_what_torch_composes():
    ours = Phases(optimizer(0.5, 2.0), WARM_UP_AND_COSINE)
    ours.begin(20)
    own = optimizer(0.5, 2.0)
    theirs = SequentialLR(own, [LinearLR(own, 0.1, 1.0, 5), CosineAnnealingLR(own, 15)], [5])
    for here, there in zip(rates(ours, 20), rates(theirs, 20), strict=True):
        assert here == pytest.approx(there, abs=1e-12)
    assert ours.get_lr() == pytest.approx([0.0, 0.0], abs=1e-15)


def test_shapes_and_shares_against_closed_forms():
    phases = [
        Phase("linear", 0.0, 1.0, share=0.1),
        Phase(share=0.4),
        Phase("exponential", end=0.01, share=0.3),
        Phase("constant", start=0.5),
    ]
    schedule = Phases(optimizer(1.0), phases)
    schedule.begin(100)
    found = [rate for (rate,) in rates(schedule, 120)]
    expected = [t / 10 for t in range(10)] + [1.0] * 40 + [0.01 ** (t / 30) for t in range(30)] + [0.5] * 40
    assert found == pytest.approx(expected, rel=1e-12)
    cosine = Phases(optimizer(1.0), [Phase("cosine", 2.0, 1.0, steps=8)])
    cosine.begin(None)
    assert [rate for (rate,) in rates(cosine, 10)] == pytest.approx(
        [1 + (1 + math.cos(math.pi * min(t, 8) / 8)) / 2 for t in range(10)]
    )


def test_a_schedule_goes_on_where_it_stood():
    straight, stopped, resumed = (Phases(optimizer(0.5), WARM_UP_AND_COSINE) for _ in range(3))
    for schedule in (straight, stopped, resumed):
        schedule.begin(20)
    expected, first = rates(straight, 20), rates(stopped, 9)
    resumed.optimizer.load_state_dict(stopped.optimizer.state_dict())
    resumed.load_state_dict(stopped.state_dict())
    assert first + rates(resumed, 11) == expected


@pytest.mark.parametrize(
    ("phases", "length", "words"),
    [
        ([], 20, "phases: none"),
        ([Phase("linear", end=1, steps=5, share=0.1)], 20, r"phases\.0: steps and share"),
        ([Phase("linear", end=1), Phase("cosine", end=0)], 20, r"phases\.0: neither steps nor share"),
        ([Phase("linear", end=1, steps=0)], 20, r"phases\.0\.steps: 0"),
        ([Phase("linear", end=1, share=1.5)], 20, r"phases\.0\.share: 1\.5"),
        ([Phase("linear", start=-1, end=1)], 20, r"phases\.0\.start: -1"),
        ([Phase("exponential", end=0)], 20, r"phases\.0\.end: 0 is not possible; allowed: above 0"),
        ([Phase("cosine")], 20, r"phases\.0\.end: missing"),
        ([Phase("constant", end=1)], 20, r"phases\.0\.end: 1 of a constant phase"),
        ([Phase("linear", end=1, steps=21)], 20, "21 steps of phases in a run of 20"),
        ([Phase("linear", end=1, steps=20), Phase("cosine", end=0)], 20, "20 steps of phases in a run of 20"),
        ([Phase("cosine", end=0)], None, "needs a run that ends"),
    ],
)
def test_phases_that_are_not_possible(phases, length, words):
    with pytest.raises(UserError, match=words):
        Phases(optimizer(1.0), phases).begin(length)


def trainer(**given):
    values = {"max_steps": -1, "max_epochs": None, "accumulate_grad_batches": 1, "limit_train_batches": 1.0}
    return SimpleNamespace(**(values | given))


@pytest.mark.parametrize(
    ("given", "length"),
    [
        ({"max_steps": 7}, 7),
        ({"max_epochs": 4}, 12),
        ({"max_epochs": 4, "max_steps": 5}, 5),
        ({"max_epochs": 4, "limit_train_batches": 2}, 8),
        ({"max_epochs": 4, "limit_train_batches": 0.5, "accumulate_grad_batches": 2}, 8),
        ({"max_epochs": -1}, None),
    ],
)
def test_the_length_of_a_run(given, length, tmp_path):
    name = next(name for name in FINITE_SETS if name.startswith("Arrays"))
    data = FINITE_SETS[name](tmp_path)  # 20 examples, 8 of them a step
    data.setup()
    assert run_length(trainer(**given), data) == length


def test_members_follow_a_schedule_to_the_end_of_their_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_own_arrays(tmp_path)
    schedule = {
        "model.scheduler": "Phases",
        "model.scheduler.phases": [{"shape": "linear", "start": 0.0, "end": 1.0, "share": 0.25},
                                   {"shape": "cosine", "end": 0.0}],
        "trainer.log_every_n_steps": 1,
    }  # fmt: skip
    epochs = {"trainer.max_steps": -1, "trainer.max_epochs": 2}
    run = sgdlit.fit(BASE, schedule, epochs, ensemble=[{"model.optimizer.lr": [0.1, 0.2]}])
    cosine = [0.2 * (1 + math.cos(math.pi * t / 6)) / 2 for t in range(6)]
    assert run.column("train/lr", 1)[1] == pytest.approx([0.0, 0.1, *cosine])
    with pytest.raises(UserError, match=r"8 in the checkpoint, and model\.scheduler follows from that"):
        sgdlit.fit({"trainer.max_epochs": 3}, resume=str(run.folder))
    with pytest.raises(UserError, match=r"(?s)SequentialLR is composed .*class_path: Phases"):
        sgdlit.fit(BASE, {"model.scheduler": "torch.optim.lr_scheduler.SequentialLR"})
