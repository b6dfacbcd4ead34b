"""Two ranks give the numbers of one process, and stop together.

The truth is the same command in one process; the two ranks are processes with gloo.
"""

import json
import os
import signal
import socket
from pathlib import Path

import pytest
from fit_runs import PATIENCE, Runs, processes, run_differences, wait_until

TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]
PENALTY = ["--model.reg_strength=0.1", "--model.objective=sgdlit.objectives.ExactPenalty"]
# 60 training examples at B = 8 leave a short last minibatch of 4; 9 and 21 examples to evaluate, in fours.
SHAPE = ["--data.batch_size=8", "--data.last_batch=short", "--data.val_size=9", "--data.eval_batch_size=4"]
EXACT = ["--trainer.precision=64-true"]
CASES = {
    "plain": [],
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Every case on two ranks, and one more that a signal to the second rank stops; all in one start."""
    folder = tmp_path_factory.mktemp("ddp")
    runs = Runs(folder, train=69, test=21)
    signalled = ["--trainer.callbacks=fit_runs.SignalAt", "--trainer.callbacks={steps: [5], rank: 1}"]
    lists = [runs.arguments(f"two_{name}", *SHAPE, *TWO, *extra) for name, extra in CASES.items()]
    lists.append(runs.arguments("two_stopped", *SHAPE, *TWO, *CASES["whole_batch"], *signalled))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [shared | {"LOCAL_RANK": str(k)} for k in range(2)]
    command = [str(Path(__file__).parent.parent / "fit_runs.py"), json.dumps(lists)]
    for process in processes([command, command], ranks, folder):
        process.wait(PATIENCE)
    codes = json.loads((folder / "out_0").read_text().splitlines()[-1])
    assert codes == [0] * len(CASES) + [128 + signal.SIGTERM], (folder / "out_0").read_text()
    return runs


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_give_the_numbers_of_one_process(runs, case):
    assert runs.fit(f"one_{case}", *SHAPE, *CASES[case]) == 0
    assert run_differences(runs, f"two_{case}", f"one_{case}", tolerance=1e-6) == []


def test_a_run_that_a_signal_stopped_on_two_ranks_goes_on_in_one_process(runs):
    assert runs.status("two_stopped")["state"] == "stopped"
    assert runs.status("two_stopped")["step"] == 16
    assert runs.resume("two_stopped", "--trainer.devices=1", "--trainer.strategy=auto") == 0
    assert run_differences(runs, "two_whole_batch", "two_stopped", tolerance=1e-6) == []


def test_a_signal_to_the_second_rank_stops_both(runs):
    """Of the ranks that the command itself starts; ``tests/long`` has the signal to the first."""
    stop_a_rank(runs, "second")


def stop_a_rank(runs: Runs, which: str) -> None:
    """Start an endless run on two ranks, send SIGTERM to one of them, and look at what both leave."""
    endless = [*SHAPE, *TWO, "--trainer.max_steps=100000000", "--trainer.check_val_every_n_epoch=10000000"]
    command = ["-m", "sgdlit", *runs.arguments(which, *endless)]
    (process,) = processes([command], [{}], runs.folder)
    wait_until((runs.path(which) / "metrics.csv").exists, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid if which == "first" else int(children[0]), signal.SIGTERM)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    status = runs.status(which)
    assert status["state"] == "stopped"
    assert runs.checkpoint(which)["global_step"] == status["step"]
    assert [p.name for p in (runs.path(which) / "checkpoints").iterdir()] == ["resume.ckpt"]
