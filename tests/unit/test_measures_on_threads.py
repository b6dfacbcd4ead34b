"""Members are measured side by side, on threads that share the random generators."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from fit_runs import Runs
from measured_runs import with_measures

from sgdlit.measures.example_gradients import example_gradients
from sgdlit.measures.products import HessianProducts
from sgdlit.models import MLP
from sgdlit.objectives import CrossEntropy
from sgdlit.training import taking


def test_threads_that_look_at_networks_do_not_see_each_other_draw():
    """A pass of products seeds the generator, which all threads share; a network that draws
    is refused."""
    x, y = torch.randn(8, 6), torch.zeros(8, dtype=torch.int64)
    networks = [MLP([6, 5, 3]) for _ in range(2)]
    before = torch.default_generator.get_state()

    def products() -> None:
        for _ in range(150):
            HessianProducts(networks[0], CrossEntropy(), [(x, y)]).gradient  # noqa: B018

    def examples() -> None:
        for _ in range(150):
            example_gradients(networks[1], CrossEntropy(), [(x, y)])

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(products), pool.submit(examples)]:
            done.result()
    assert torch.equal(torch.default_generator.get_state(), before)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_members_whose_networks_may_draw_are_measured_one_after_another(tmp_path, monkeypatch, mode):
    asked = []

    class Watched(taking.SideBySide):
        def map(self, work, things, at_once=True):
            asked.append(at_once)
            return super().map(work, things, at_once)

    monkeypatch.setattr(taking, "SideBySide", Watched)
    runs = Runs(tmp_path)
    arguments = with_measures(runs, ["GradientNorm"], mode=mode)
    seeds = "--ensemble=[{seed_everything: [0, 1]}]"
    assert runs.fit("run", *arguments, seeds, "--trainer.max_steps=1") == 0
    assert set(asked) == {mode == "eval"}
