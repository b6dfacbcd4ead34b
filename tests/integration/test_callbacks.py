"""Callbacks that evaluate otherwise: averaged iterates, log-spaced steps, a target; also of ensembles."""

import pytest
import torch
from fit_runs import Runs, datamodule, differences
from torch.nn import functional as F

from sgdlit.models import MLP
from sgdlit.training.log_spaced_validation import log_spaced_steps

TRAINING = "sgdlit.training."
AVERAGE = [
    "--trainer.callbacks+=" + TRAINING + "iterate_average.IterateAverage",
    "--trainer.callbacks.decay=0.8",
]
POLYNOMIAL = [AVERAGE[0], "--trainer.callbacks.polynomial=8"]
LOG_SPACED = [
    "--trainer.callbacks+=" + TRAINING + "log_spaced_validation.LogSpacedValidation",
    "--trainer.callbacks.first=3",
    "--trainer.callbacks.per_doubling=1",
    "--trainer.check_val_every_n_epoch=null",
    "--trainer.val_check_interval=1000",
]
GRID = "--ensemble=[{model.optimizer.lr: [0.05, 0.01]}]"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("callbacks"))


def network_of(state, member=None):
    prefix = f"networks.{member or 0}."
    network = MLP([784, 16, 10])
    network.load_state_dict({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})
    return network


def evaluated_at(runs, name, column="test/loss", member=None):
    rows = [row for row in runs.rows(name) if row[column] and row.get("member", "") in ("", str(member))]
    return {int(row["step"]): float(row[column]) for row in rows}


def average_by_hand(runs, lr, weight, steps):
    """θ and θ̃ of a plain loop with momentum 0.9, where θ has weight(t) in θ̃ after update t."""
    torch.manual_seed(0)
    network, data = network_of(runs.checkpoint("start")["state_dict"]), datamodule(runs)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    average = [p.detach().clone() for p in network.parameters()]
    batches = data.batches(torch.device("cpu"))
    for step in range(steps):
        share = weight(step + 1)
        inputs, labels = batches.batch(step, slice(0, 10))
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
        for a, p in zip(average, network.parameters(), strict=True):
            a.mul_(1 - share).add_(p.detach(), alpha=share)
    return network, average


def start(runs):
    """A checkpoint of the initial parameters: a run whose rate is 0."""
    if not runs.path("start").exists():
        assert runs.fit("start", "--model.optimizer.lr=0", "--trainer.max_steps=1") == 0


@pytest.mark.parametrize(
    ("average", "weight"),
    [(AVERAGE, lambda step: 0.2), (POLYNOMIAL, lambda step: 9 / (step + 8))],
    ids=["exponential", "polynomial"],
)
@pytest.mark.parametrize("member", [None, 1])
def test_the_average_is_evaluated_and_training_goes_on_as_without(runs, member, average, weight):
    start(runs)
    grid = [] if member is None else [GRID]
    name = f"averaged_{member}_{weight(1)}"
    assert runs.fit(name, *average, *grid) == 0
    assert runs.fit(f"{name}_not", *grid) == 0
    same = differences(
        runs.checkpoint(name)["state_dict"], runs.checkpoint(f"{name}_not")["state_dict"], "", 1e-6
    )
    assert same == []
    network, average = average_by_hand(runs, 0.01, weight, 20)
    found = network_of(runs.checkpoint(name)["state_dict"], member)
    for p, q in zip(network.parameters(), found.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    data = datamodule(runs)
    images, labels = data.subsets["test"].take(torch.arange(20))
    for p, a in zip(network.parameters(), average, strict=True):
        p.data.copy_(a)
    with torch.no_grad():
        expected = F.cross_entropy(network(data.standardise(images)), labels)
    assert evaluated_at(runs, name, member=member)[20] == pytest.approx(float(expected), rel=1e-5)
    assert evaluated_at(runs, f"{name}_not", member=member)[20] != pytest.approx(float(expected), rel=1e-3)


def test_without_memory_the_average_is_the_iterate_and_calls_stay_long(runs):
    none = [AVERAGE[0], "--trainer.callbacks.decay=0"]
    assert runs.fit("memoryless", *none, "--model.steps_per_call=20") == 0
    assert runs.fit("memoryless_not") == 0
    assert runs.rows("memoryless") == runs.rows("memoryless_not")
    assert runs.checkpoint("memoryless")["callbacks"]["IterateAverage"] == {"members": []}


def test_training_without_a_look_at_the_test_set(runs, capsys):
    assert runs.fit("unlooked", "--data.evaluate_test=false") == 0
    names = {name for row in runs.rows("unlooked") for name, value in row.items() if value}
    assert {"val/loss", "val/highest_accuracy"} <= names
    assert not [name for name in names if name.startswith("test/")]
    assert runs.fit("no_evaluation", "--data.evaluate_test=false", "--data.val_size=0") == 2
    assert "data.evaluate_test: false with data.val_size: 0 leaves nothing to be" in capsys.readouterr().err


@pytest.mark.parametrize("average", [AVERAGE, POLYNOMIAL], ids=["exponential", "polynomial"])
def test_a_resumed_run_goes_on_with_its_average(runs, average):
    stop = ["--trainer.callbacks+=fit_runs.SignalAt", "--trainer.callbacks.steps=[8]"]
    whole, broken = f"whole {average[1]}", f"broken {average[1]}"
    assert runs.fit(whole, *average) == 0
    assert runs.fit(broken, *average, *stop) == 128 + 15
    assert runs.resume(broken) == 0
    assert runs.rows(whole) == runs.rows(broken)


def test_a_resumed_run_goes_on_with_the_state_of_dog(runs):
    """The package keeps most of its state in param_groups."""
    pytest.importorskip("dog")
    dog = ["--model.optimizer=dog.DoG", "--model.optimizer.reps_rel=1e-3", "--model.engine=loop"]
    stop = ["--trainer.callbacks+=fit_runs.SignalAt", "--trainer.callbacks.steps=[8]"]
    assert runs.fit("dog", *dog, *POLYNOMIAL) == 0
    assert runs.fit("dog_broken", *dog, *POLYNOMIAL, *stop) == 128 + 15
    assert runs.resume("dog_broken") == 0
    assert runs.rows("dog") == runs.rows("dog_broken")


@pytest.mark.parametrize("grid", [[], pytest.param([GRID], marks=pytest.mark.slow)])
def test_evaluations_at_log_spaced_steps(runs, grid):
    name = f"spaced_{len(grid)}"
    assert runs.fit(name, *LOG_SPACED, "--trainer.max_steps=30", *grid) == 0
    assert list(evaluated_at(runs, name, member=0)) == [3, 6, 12, 24, 30]
    stop = ["--trainer.callbacks+=fit_runs.SignalAt", "--trainer.callbacks.steps=[7,12]"]
    assert runs.fit(f"{name}_resumed", *LOG_SPACED, *stop, "--trainer.max_steps=30", *grid) == 128 + 15
    assert runs.resume(f"{name}_resumed") == 128 + 15
    assert runs.resume(f"{name}_resumed") == 0
    assert list(evaluated_at(runs, f"{name}_resumed", member=0)) == [3, 6, 12, 24, 30]


def test_log_spaced_steps():
    assert log_spaced_steps(10, 100, 2) == [10, 14, 20, 28, 40, 57, 80]
    assert log_spaced_steps(1, 10, 3) == [1, 2, 3, 4, 5, 6, 8, 10]


def test_a_run_stops_at_its_target(runs, capsys):
    target = ["--trainer.callbacks+=" + TRAINING + "stop_at_target.StopAtTarget"]
    target += ["--trainer.callbacks.metric=train_set/loss", "--data.evaluate_train=true"]
    assert runs.fit("untargeted", *LOG_SPACED, "--data.evaluate_train=true", GRID) == 0
    losses = [evaluated_at(runs, "untargeted", "train_set/loss", k) for k in (0, 1)]
    first = [min(s for s, v in losses[k].items() if v <= losses[1][12]) for k in (0, 1)]
    at_most = [f"--trainer.callbacks.at_most={losses[1][12] * 1.0001}"]
    assert runs.fit("targeted", *LOG_SPACED, *target, *at_most, GRID) == 0
    assert f"reached by 2 of 2 members: from step {min(first)} on" in capsys.readouterr().err
    assert runs.status("targeted")["step"] == max(first) == 12
    assert runs.fit("single", *LOG_SPACED, *target, *at_most, "--model.optimizer.lr=0.05") == 0
    assert runs.status("single")["step"] == first[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*AVERAGE[:1], "--trainer.callbacks.decay=1.0"], "allowed: 0 up to, not including, 1"),
        (LOG_SPACED[:1], "check_val_every_n_epoch: null"),
        (
            [
                "--trainer.callbacks=" + TRAINING + "stop_at_target.StopAtTarget",
                "--trainer.callbacks.metric=val/loss",
            ],
            "one of the two",
        ),
    ],
)
def test_impossible_callbacks_are_refused(runs, arguments, words, capsys):
    assert runs.fit("refused", *arguments) == 2
    assert words in capsys.readouterr().err
    assert not runs.path("refused").exists()
