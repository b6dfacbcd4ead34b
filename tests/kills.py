"""Runs and workers that are killed, and what has to come out of them all the same."""

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import sweep_worker
from fit_runs import Runs, processes, run_differences, wait_until
from sweep_worker import fit, grid

from sgdlit.sweeps import worker
from sgdlit.sweeps.quantities import Metric, Statistic
from sgdlit.sweeps.series import SweepResults, table
from sgdlit.sweeps.store import Store
from sgdlit.sweeps.table import rows_of

PROGRAM = Path(sweep_worker.__file__)
ENDLESS = [
    "--trainer.max_steps=1000000",
    "--trainer.check_val_every_n_epoch=20",
    "--trainer.log_every_n_steps=50",
    "--checkpoints.every_n_steps=40",
]


def finish_and_compare(runs: Runs, name: str) -> None:
    """Resume to 25 steps beyond the checkpoints, and hold that against a run that nothing stopped.

    The best one may be of a later step than the one to resume from.
    """
    paths = (runs.path(name) / "checkpoints").glob("*.ckpt")
    end = f"--trainer.max_steps={max(runs.checkpoint(name, path.stem)['global_step'] for path in paths) + 25}"
    assert runs.resume(name, end) == 0
    assert runs.fit(f"{name}_straight", *ENDLESS, end) == 0
    assert run_differences(runs, f"{name}_straight", name) == []


def kill_and_resume(runs: Runs, name: str, kills: int) -> None:
    """Kill a run some times at random moments after its checkpoint has moved, finish it, and compare."""
    rng, at = random.Random(7), 0

    def moved() -> bool:
        path = runs.path(name) / "checkpoints" / "resume.ckpt"
        return path.exists() and runs.checkpoint(name)["global_step"] > at

    for k in range(kills):
        arguments = ["fit", "--resume", str(runs.path(name))] if k else runs.arguments(name, *ENDLESS)
        (process,) = processes([["-m", "sgdlit", *arguments]], [{}], runs.folder)
        wait_until(moved, process)
        time.sleep(rng.uniform(0.0, 0.2))
        process.kill()
        process.wait()
        at = runs.checkpoint(name)["global_step"]
    finish_and_compare(runs, name)


def start(store: Path, count: int, workers: int = 1, calls: int = -1) -> subprocess.Popen:
    command = [sys.executable, str(PROGRAM), *map(str, (store, count, workers, calls))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def calls_of(store: Path) -> Counter[str]:
    """How often each cell was run."""
    return Counter(line.split()[0] for line in (store / "calls").read_text().splitlines())


def rows(store: Store, count: int) -> list[dict]:
    """The table of the sweep, without what is a matter of time."""
    return rows_of(table(SweepResults(grid(count), store), Metric("test/loss"), Statistic(best=2)))


def kill_workers(folder: Path, kills: int) -> None:
    """Kill workers on a sweep, finish it, and hold its table against that of an undisturbed one.

    Each process is killed a moment after one of its first calls, and makes no more than five.
    """
    rng, count, stored = random.Random(5), 6 * kills, []
    for _ in range(kills):
        with start(folder / "killed", count, calls=5) as process:
            for _ in range(rng.randint(2, 5)):
                assert process.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.005))
            process.kill()
        stored.append(len(Store(folder / "killed").read()[0]))
    killed = Store(folder / "killed")
    assert stored == sorted(stored)
    assert 0 < stored[-1] < count
    assert killed.read()[1] == []
    assert worker.work(grid(count), killed, fit).ran == count - stored[-1]
    undisturbed = Store(folder / "undisturbed", create=True)
    worker.work(grid(count), undisturbed, fit)
    assert rows(killed, count) == rows(undisturbed, count)
    assert len(rows(killed, count)) == count / 3
    calls = calls_of(folder / "killed")
    assert sum(calls.values()) <= stored[-1] + kills, "more was lost than the runs in flight"
