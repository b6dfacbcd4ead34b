"""Measures that a step's own backward pass shows: to the last bit the numbers of a pass apart."""

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from fit_runs import Runs, differences
from measured_runs import SNAPSHOTS, Normed, afterwards, apart, during, with_measures
from torch import nn

from sgdlit.data.grab import GraB
from sgdlit.foundations.errors import UserError
from sgdlit.measures.micro_batches import MicroBatchNoise, noise_of_batch
from sgdlit.measures.work import Sizes
from sgdlit.objectives import CrossEntropy

NOISE = [{"class_path": "MicroBatchNoise", "init_args": {"parts": None}}]
TRACE, SQUARE = "measure/step_covariance_trace", "measure/step_squared_gradient"
FIRST = [{"class_path": "MicroBatchNoise", "init_args": {"parts": 2, "first": 3}}]
STACKED = "--model.engine=stacked"


class Tied(nn.Module):
    """A linear layer whose weights are used outside of it too.

    Shapes: input ``[B, 1, 28, 28]``, output ``[B, 10]``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(784, 16), nn.Linear(16, 10)

    def forward(self, x):
        x = x.flatten(1)
        return self.last(self.first(x).tanh()) + (x @ self.first.weight.T)[:, :10]


class BiasBeside(nn.Module):
    """A linear layer whose bias is used outside of it too.

    Shapes: input ``[B, 1, 28, 28]``, output ``[B, 10]``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(784, 16), nn.Linear(16, 10)

    def forward(self, x):
        return self.last(self.first(x.flatten(1)).tanh()) + 2 * self.last.bias


class PositionsFirst(nn.Module):
    """A linear layer at ten positions, which stand before the ten examples of a step.

    Shapes: input ``[B, 1, 28, 28]``, output ``[B, 10]``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.each, self.last = nn.Linear(78, 4), nn.Linear(40, 10)

    def forward(self, x):
        each = self.each(x.flatten(1)[:, :780].view(-1, 10, 78).transpose(0, 1)).tanh()
        return self.last(each.transpose(0, 1).flatten(1))


class Tossing(Tied):
    """In training it tosses a coin whether a layer is used, which it is at most steps and in evaluation."""

    def forward(self, x):
        return super().forward(x if not self.training or random.random() < 0.8 else 2 * x)


class MovedBack(nn.Module):
    """A linear layer that sees the examples in another order, of which the first alone is in its place.

    Shapes: input ``[B, 1, 28, 28]``, output ``[B, 10]``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(784, 16), nn.Linear(16, 10)

    def forward(self, x):
        h = self.first(x.flatten(1)).tanh()
        out = self.last(torch.cat([h[:1], h[1:].flip(0)]))
        return torch.cat([out[:1], out[1:].flip(0)])


@pytest.fixture
def runs(tmp_path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture
def shown(monkeypatch) -> list[int]:
    """One entry for each step that showed its values."""
    found: list[int] = []
    take = MicroBatchNoise.take_of_norms

    def counted(self, norms, data):
        found.append(len(norms.squared_norms))
        return take(self, norms, data)

    monkeypatch.setattr(MicroBatchNoise, "take_of_norms", counted)
    return found


@pytest.fixture
def gradients(monkeypatch) -> list[int]:
    """One entry for each step whose gradient showed its values."""
    found: list[int] = []
    take = MicroBatchNoise.take_of_gradient

    def counted(self, run, gradient):
        found.append(run.step)
        return take(self, run, gradient)

    monkeypatch.setattr(MicroBatchNoise, "take_of_gradient", counted)
    return found


def noise(runs: Runs, name: str, *more: str, every: int = 4, steps: int = 20) -> dict:
    arguments = with_measures(runs, NOISE, every_n_steps=every)
    assert runs.fit(name, *arguments, f"--trainer.max_steps={steps}", *more) == 0
    return during(runs.path(name))


def hold_to_the_logged_norms(runs: Runs, found: dict) -> None:
    """Of 10 of 60 examples ‖ĝ‖² = Ĝ² + (1 − 10/60)Ŝ²/10."""
    norms = {int(row["step"]): float(row["train/gradient_norm"]) for row in runs.rows("run")
             if row["train/gradient_norm"]}  # fmt: skip
    for step, norm in norms.items():
        of_mean = found[step, SQUARE] + (1 - 10 / 60) * found[step, TRACE] / 10
        assert of_mean == pytest.approx(norm**2, rel=1e-4)


def test_steps_show_the_noise_of_their_batches(runs, shown):
    """Against a pass of its own, afterwards; against ‖ĝ‖² as the run logs it; and the run does not notice."""
    found = noise(runs, "run", STACKED, "--trainer.log_every_n_steps=4", *SNAPSHOTS)
    assert sorted({step for step, _ in found}) == [0, 4, 8, 12, 16, 20]
    assert len(shown) == 4  # before the first step and after the last one a pass of its own finds it
    again = afterwards(runs.path("run"), measures=NOISE)
    assert {step for step, _ in again} == {0, 4, 8, 16, 20}
    assert apart(again, {key: value for key, value in found.items() if key[0] != 12}) == []
    hold_to_the_logged_norms(runs, found)
    noise(runs, "plain", STACKED, "--trainer.log_every_n_steps=4", every=100)
    for part in ("state_dict", "optimizer_states", "global_step"):
        assert not differences(runs.checkpoint("run")[part], runs.checkpoint("plain")[part])


def test_steps_of_the_loop_show_their_gradients(runs, gradients):
    """The same against passes apart, of a network with convolutions."""
    network = "--model.network=measured_runs.OnSmallPictures"
    arguments = [*with_measures(runs, FIRST, every_n_steps=2), network, "--trainer.log_every_n_steps=2"]
    assert runs.fit("run", *arguments, "--trainer.max_steps=6", *SNAPSHOTS) == 0
    found = during(runs.path("run"))
    assert sorted({step for step, _ in found}) == [0, 2, 4, 6]
    assert gradients == [2, 4]  # before the first step and after the last one it finds its own
    again = afterwards(runs.path("run"), measures=FIRST)
    assert {step for step, _ in again} == {0, 4, 6}
    assert apart(again, {key: value for key, value in found.items() if key[0] != 2}) == []
    hold_to_the_logged_norms(runs, found)
    arguments = [*with_measures(runs, FIRST, every_n_steps=100), network, "--trainer.log_every_n_steps=2"]
    assert runs.fit("plain", *arguments, "--trainer.max_steps=6") == 0
    for part in ("state_dict", "optimizer_states", "global_step"):
        assert not differences(runs.checkpoint("run")[part], runs.checkpoint("plain")[part])


def test_an_end_that_was_not_planned_has_every_measure_once(runs, shown):
    """Early stopping at a step at which one measure is due, one shows later, and one is not."""
    taken = [*NOISE, "GradientNorm", {"class_path": "WeightNorms", "init_args": {"every_n_steps": 3}}]
    stop = "{monitor: train/loss, mode: min, check_on_train_epoch_end: false, stopping_threshold: 100}"
    early = ["--trainer.callbacks+=EarlyStopping", f"--trainer.callbacks.init_args={stop}"]
    arguments = with_measures(runs, taken, every_n_steps=2)
    more = [STACKED, "--trainer.log_every_n_steps=4", "--trainer.val_check_interval=4", *early]
    assert runs.fit("run", *arguments, "--trainer.max_steps=20", *more) == 0
    rows = runs.rows("run")
    for column in (TRACE, "measure/squared_gradient_norm", "measure/weight_norm"):
        assert [row["step"] for row in rows if row[column]].count("4") == 1
    assert max(int(row["step"]) for row in rows) == 4


@pytest.mark.parametrize(
    ("engine", "batch_size", "given"),
    [("stacked", 59, {"parts": None}), ("loop", 56, {"parts": 2, "first": 4})],
)
def test_a_short_batch_that_has_not_so_many_parts_shows_nothing(runs, engine, batch_size, given):
    """Of 60 examples one or four are left for every second step, too few for the measure."""
    noise = [{"class_path": "MicroBatchNoise", "init_args": given}]
    arguments = [*with_measures(runs, noise, every_n_steps=1), f"--model.engine={engine}"]
    arguments += [f"--data.batch_size={batch_size}", "--data.last_batch=short", "--trainer.max_steps=5"]
    assert runs.fit("run", *arguments, "--trainer.log_every_n_steps=100") == 0
    assert sorted({step for step, _ in during(runs.path("run"))}) == [0, 2, 4]
    assert {"1", "3"}.isdisjoint(row["step"] for row in runs.rows("run"))


@pytest.mark.slow
def test_neither_calls_nor_a_resume_change_what_steps_show(runs, shown):
    whole = noise(runs, "whole", STACKED)
    assert noise(runs, "short", STACKED, "--model.steps_per_call=3") == whole
    assert noise(runs, "every", STACKED, every=1).items() >= whole.items()
    before = len(shown)
    noise(runs, "part", STACKED, steps=12)
    assert runs.resume("part", "--trainer.max_steps=20") == 0
    assert during(runs.path("part")) == whole
    assert len(shown) - before == 3  # 4, 8 and 16: the part ended at 12, and measured there by itself
    once = [row["step"] for row in runs.rows("part") if row[TRACE]]
    assert once == ["0", "4", "8", "12", "16", "20"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        [STACKED, "--model.reg_strength=0.1"],
        [STACKED, "--model.network=test_measures_of_steps.Tied"],
        [STACKED, "--model.network=test_measures_of_steps.BiasBeside"],
        [STACKED, "--model.network=test_measures_of_steps.PositionsFirst"],
        [STACKED, "--model.network=test_measures_of_steps.MovedBack"],
        ["--model.engine=loop"],
        ["--model.engine=compiled"],
        [STACKED, "--ensemble=[{seed_everything: [3, 0]}]"],
    ],
)
def test_where_steps_do_not_show_it_a_pass_apart_finds_the_noise(runs, shown, more):
    member = 1 if "ensemble" in more[-1] else None
    arguments = with_measures(runs, NOISE, every_n_steps=4)
    assert runs.fit("run", *arguments, "--trainer.max_steps=9", *more, *SNAPSHOTS) == 0
    found = during(runs.path("run"), member)
    assert sorted({step for step, _ in found}) == [0, 4, 8, 9]
    assert not shown
    again = afterwards(runs.path("run"), measures=NOISE, member=member)
    assert apart(again, found) == []


@pytest.mark.slow
def test_neither_calls_nor_a_resume_change_what_gradients_show(runs, gradients):
    given = [*with_measures(runs, FIRST, every_n_steps=4), "--model.engine=loop"]
    assert runs.fit("whole", *given, "--trainer.max_steps=20") == 0
    whole = during(runs.path("whole"))
    assert gradients == [4, 8, 12, 16]
    assert runs.fit("short", *given, "--trainer.max_steps=20", "--model.steps_per_call=3") == 0
    assert during(runs.path("short")) == whole
    del gradients[:]
    assert runs.fit("part", *given, "--trainer.max_steps=12") == 0
    assert runs.resume("part", "--trainer.max_steps=20") == 0
    assert gradients == [4, 8, 16]
    assert during(runs.path("part")) == whole


OTHERS = [
    "--model.reg_strength=0.1",
    "--model.reduction=sum",
    "--model.network=measured_runs.Dropping",
    "--model.network=test_measures_of_steps.Tossing",
    "--model.network=measured_runs.Normed",
    "--ensemble=[{seed_everything: [3, 0]}]",
    STACKED,
]


@pytest.mark.parametrize(
    "more",
    [
        "--trainer.precision=bf16-mixed",
        *(pytest.param(other, marks=pytest.mark.slow) for other in OTHERS),
    ],
)
def test_where_no_gradient_is_shown_the_measure_finds_its_own(runs, gradients, more):
    member = 1 if "ensemble" in more else None
    arguments = [*with_measures(runs, FIRST, every_n_steps=2), "--model.engine=loop", more]
    assert runs.fit("run", *arguments, "--trainer.max_steps=9", *SNAPSHOTS) == 0
    found = during(runs.path("run"), member)
    assert sorted({step for step, _ in found}) == [0, 2, 4, 6, 8, 9]
    assert not gradients
    again = afterwards(runs.path("run"), measures=FIRST, member=member)
    kept = {step for step, _ in again}
    assert apart(again, {key: value for key, value in found.items() if key[0] in kept}) == []


@pytest.mark.slow
def test_a_run_that_diverges_shows_no_noise_that_is_not_finite(runs, shown):
    found = noise(runs, "run", STACKED, "--model.optimizer.lr=1e30", every=1)
    assert found
    assert all(torch.isfinite(torch.tensor(value)) for value in found.values())


def test_an_order_that_learns_has_no_next_batch_to_look_at():
    with pytest.raises(UserError, match="MicroBatchNoise: GraB follows from the gradients"):
        MicroBatchNoise().check(nn.Linear(1, 1), SimpleNamespace(order=GraB()))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"parts": 2, "first": 8}, r"first: 8 is not possible for 8 examples .*: batches of 9 or more"),
        ({"parts": 9}, r"parts: 9 is not possible for 8 examples of a batch of 8; allowed: batches of 9"),
    ],
)
def test_a_batch_that_has_not_so_many_parts_is_refused(given, words):
    with pytest.raises(UserError, match=rf"MicroBatchNoise\.{words}"):
        MicroBatchNoise(**given).check(nn.Linear(1, 1), SimpleNamespace(order=None, batch_size=8))


def test_a_shown_gradient_leaves_the_first_part_to_pay():
    noise = MicroBatchNoise(parts=2, first=8)
    paid = {}
    for shown in (None, "norms", "gradient"):
        sizes = Sizes(1, 500, 500, batch_size=32, training=500, test=0, parameters=10, shown=shown)
        paid[shown] = sum(work.gradients for work in noise.work(sizes).values())
    assert paid == {None: 40, "norms": 40, "gradient": 8}
    assert MicroBatchNoise(parts=2, first=8).work(replace(sizes, batch_size=8)) == {}


def test_a_first_part_is_no_part_where_batchnorm_sees_the_batch(runs, capsys):
    """In mode ``train`` of all measures, or of this one, before the run leaves a trace."""
    network = ["--model.network=measured_runs.Normed", "--trainer.max_steps=2"]
    assert runs.fit("wrong", *with_measures(runs, FIRST, mode="train"), *network) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "network.2: BatchNorm1d takes the statistics of the batch here, so that a first part has" in said
    assert "allowed: mode: eval" in said
    assert not runs.path("wrong").exists()
    own = [{**FIRST[0], "init_args": FIRST[0]["init_args"] | {"mode": "train"}}]
    assert runs.fit("wrong", *with_measures(runs, own), *network) == 2
    with pytest.raises(UserError, match=r"^network\.2: BatchNorm1d takes .* another function than the whole"):
        noise_of_batch(Normed(), CrossEntropy(), (torch.rand(4, 784), torch.arange(4)), 2, first=1)
