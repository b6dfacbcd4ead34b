"""Runs on two ranks that the command itself starts, and a signal to one of them."""

import json
import os
import signal
import socket
from pathlib import Path

from fit_runs import PATIENCE, Runs, processes, wait_until

TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]
# 60 training examples at B = 8 leave a short last minibatch of 4; 9 and 21 examples to evaluate, in fours.
SHAPE = ["--data.batch_size=8", "--data.last_batch=short", "--data.val_size=9", "--data.eval_batch_size=4"]


def rank_environments(count: int) -> list[dict[str, str]]:
    """What tells each process of some on this machine which rank it is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [shared | {"WORLD_SIZE": str(count), "LOCAL_RANK": str(k)} for k in range(count)]


def fit_on_two_ranks(runs: Runs, lists: list[list[str]]) -> list[int]:
    """Run lists of arguments one after another on two processes, and give the exit code of each."""
    command = [str(Path(__file__).parent / "fit_runs.py"), json.dumps(lists)]
    for process in processes([command, command], rank_environments(2), runs.folder):
        process.wait(PATIENCE)
    return json.loads((runs.folder / "out_0").read_text().splitlines()[-1])


def stop_a_rank(runs: Runs, which: str, number: int = signal.SIGTERM) -> None:
    """Start an endless run on two ranks, signal the first or second, and see what both leave."""
    endless = [*SHAPE, *TWO, "--trainer.max_steps=100000000", "--trainer.check_val_every_n_epoch=10000000"]
    command = ["-m", "sgdlit", *runs.arguments(which, *endless)]
    (process,) = processes([command], [{}], runs.folder)
    wait_until((runs.path(which) / "metrics.csv").exists, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid if which == "first" else int(children[0]), number)
    assert process.wait(PATIENCE) == 128 + number
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    status = runs.status(which)
    assert status["state"] == "stopped"
    assert runs.checkpoint(which)["global_step"] == status["step"]
    assert [p.name for p in (runs.path(which) / "checkpoints").iterdir()] == ["resume.ckpt"]
