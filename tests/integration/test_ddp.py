"""Two ranks give the numbers of one process, and stop together.

The truth is the same command in one process; the two ranks are processes with gloo.
"""

import signal

import pytest
from fit_runs import Runs, differences, run_differences
from two_ranks import SHAPE, TWO, fit_on_two_ranks, stop_a_rank

from sgdlit.measures import load

PENALTY = ["--model.reg_strength=0.1", "--model.objective=sgdlit.objectives.ExactPenalty"]
EXACT = ["--trainer.precision=64-true"]
METRICS = (
    "--model.metrics={calibration: {class_path: MulticlassCalibrationError, init_args: {num_classes: 10}}, "
    "confusion: {class_path: MulticlassConfusionMatrix, init_args: {num_classes: 10}}}"
)
CASES = {
    "plain": [METRICS],
    "whole_batch": [*EXACT, "--model.reg_strength=0.1"],
    "half_batch": [*EXACT, *PENALTY, "--model.objective.penalty_batch_size=4", "--data.augment=true"],
    "smaller": [
        *EXACT,
        *PENALTY,
        "--model.objective.penalty_batch_size=2",
        "--trainer.accumulate_grad_batches=2",
    ],
    "clipped": [*EXACT, "--model.reg_strength=0.1", "--trainer.gradient_clip_val=0.5", "--data.repeats=2"],
}

NOISE = "{measures: [{class_path: MicroBatchNoise, init_args: {parts: null}}], every_n_steps: 3}"
MEMBERS = [
    "--trainer.callbacks=sgdlit.training.measuring.Measures",
    f"--trainer.callbacks.init_args={NOISE}",
    "--ensemble=[{seed_everything: [0, 1, 2]}]",
    "--model.steps_per_call=4",
    "--model.optimizer.momentum=0.9",
    "--data.val_size=9",
    METRICS,
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Every case on two ranks, one of several members, and one that a signal to the second rank stops."""
    folder = tmp_path_factory.mktemp("ddp")
    runs = Runs(folder, train=69, test=21)
    signalled = ["--trainer.callbacks=fit_runs.SignalAt", "--trainer.callbacks={steps: [5], rank: 1}"]
    lists = [runs.arguments(f"two_{name}", *SHAPE, *TWO, *extra) for name, extra in CASES.items()]
    lists.append(runs.arguments("two_members", *MEMBERS, *TWO))
    lists.append(runs.arguments("two_stopped", *SHAPE, *TWO, *CASES["whole_batch"], *signalled))
    codes = fit_on_two_ranks(runs, lists)
    assert codes == [0] * (len(CASES) + 1) + [128 + signal.SIGTERM], (folder / "out_0").read_text()
    return runs


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_give_the_numbers_of_one_process(runs, case):
    assert runs.fit(f"one_{case}", *SHAPE, *CASES[case]) == 0
    assert run_differences(runs, f"two_{case}", f"one_{case}", tolerance=1e-6) == []
    if METRICS in CASES[case]:
        assert_equal_matrices(runs, f"two_{case}", f"one_{case}", None)


def assert_equal_matrices(runs: Runs, one: str, other: str, member: int | None) -> None:
    """What a metric of whole sets leaves, of all examples however they were shared out."""
    for name in ("val_confusion", "test_confusion"):
        a, b = (load(runs.path(run), member)[name] for run in (one, other))
        assert a.values.tolist() == b.values.tolist()
        assert a.steps.tolist() == b.steps.tolist()


def test_members_over_two_ranks_are_those_of_one_process(runs):
    """Also where the checkpoint of two ranks goes on in one process."""
    assert runs.fit("one_members", *MEMBERS) == 0
    one, two = runs.checkpoint("one_members"), runs.checkpoint("two_members")
    assert differences(one["state_dict"], two["state_dict"], tolerance=1e-6) == []
    assert differences(one["optimizer_states"], two["optimizer_states"], tolerance=1e-5) == []
    assert differences(runs.rows("one_members"), runs.rows("two_members"), tolerance=1e-4) == []
    assert len(runs.status("two_members")["members"]) == 3
    for k in range(3):
        assert_equal_matrices(runs, "two_members", "one_members", k)
    longer = ["--trainer.max_steps=30", "--trainer.devices=1", "--trainer.strategy=auto"]
    assert runs.resume("two_members", *longer) == 0
    assert runs.resume("one_members", *longer) == 0
    one, two = runs.checkpoint("one_members"), runs.checkpoint("two_members")
    assert two["global_step"] == 30
    assert differences(one["state_dict"], two["state_dict"], tolerance=1e-5) == []


def test_a_run_that_a_signal_stopped_on_two_ranks_goes_on_in_one_process(runs):
    assert runs.status("two_stopped")["state"] == "stopped"
    assert runs.status("two_stopped")["step"] == 16
    assert runs.resume("two_stopped", "--trainer.devices=1", "--trainer.strategy=auto") == 0
    assert run_differences(runs, "two_whole_batch", "two_stopped", tolerance=1e-6) == []


def test_a_signal_to_the_second_rank_stops_both(runs):
    """Of the ranks that the command itself starts; ``tests/long`` has the signal to the first."""
    stop_a_rank(runs, "second")
