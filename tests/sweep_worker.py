"""A worker on cells whose ``fit`` takes some milliseconds, in processes that tests may kill.

python sweep_worker.py STORE COUNT WORKERS CALLS: run the cells of ``grid(COUNT)``. Every call of ``fit`` is
noted in STORE/calls and printed. The first waits until so many workers have made a call, and the one after
CALLS waits for ever, so that nothing depends on how fast a machine is.
"""

import json
import os
import sys
import time
from pathlib import Path

import yaml
from jsonargparse import Namespace

from sgdlit.sweeps import worker
from sgdlit.sweeps.plan import Cell, Plan
from sgdlit.sweeps.store import Store


def grid(count: int, seeds: int = 3) -> Plan:
    """``count`` cells over a rate, of which the highest diverge, and three seeds."""
    cells = []
    for k in range(count):
        rate, seed = 2.0 ** -(k // seeds), k % seeds
        trainer = Namespace(accelerator="cpu", devices=1)
        config = Namespace(name="fake", seed_everything=seed, model=Namespace(lr=rate), trainer=trainer)
        cells.append(Cell(f"{k // seeds:016x}-{seed}", {"model.lr": rate}, seed, config))
    return Plan({"rate": cells}, {"model.lr": 1.0, "seed_everything": 0}, "inputs")


def fit(arguments: list[str]) -> int:
    """Write the folder of a run whose loss is rate + seed/10 at step 20, or that diverged at step 7."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    config = yaml.safe_load(Path(options["--config"]).read_text())
    rate, seed = config["model"]["lr"], config["seed_everything"]
    folder = Path(options["--logs"]) / options["--name"] / "version_0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps(config))
    rows = ["step,train/loss,test/loss", "10,0.5,", f"10,,{rate + 1}", f"20,0.25,{rate + seed / 10}"]
    (folder / "metrics.csv").write_text("\n".join(rows[:2] if rate == 1 else rows) + "\n")
    state = {"state": "diverged", "step": 7} if rate == 1 else {"state": "finished", "step": 20}
    (folder / "status.json").write_text(json.dumps({**state, "test/lowest_loss": rate}))
    return 0


class Noted:
    """Calls of ``fit``, each of them noted in a file as the cell and the process.

    Args:
        path: of the file.
        workers: processes that have to have made a call before any of them goes on.
        most: calls of this process that end.
    """

    def __init__(self, path: Path, workers: int, most: int) -> None:
        self.path, self.workers, self.left = path, workers, most

    def fit(self, arguments: list[str]) -> int:
        cell = Path(arguments[arguments.index("--config") + 1]).stem
        with self.path.open("a") as file:
            file.write(f"{cell} {os.getpid()}\n")
        print(cell, flush=True)
        while self.left == 0 or len({line.split()[1] for line in self.lines()}) < self.workers:
            time.sleep(0.01)
        self.left -= 1
        return fit(arguments)

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()


def made_by(accelerator: object) -> dict[str, object]:
    return {"device": "cpu", "at": "now"}


if __name__ == "__main__":
    worker.made_by = made_by  # which imports torch
    folder, (count, workers, calls) = Path(sys.argv[1]), map(int, sys.argv[2:])
    store = Store(folder, create=True)
    done = worker.work(grid(count), store, Noted(folder / "calls", workers, calls).fit)
    print(json.dumps({"ran": done.ran, "failed": done.failed, "elsewhere": done.elsewhere}))
