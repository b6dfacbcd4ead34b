"""A worker on cells whose ``fit`` takes some milliseconds, in processes that tests may kill.

python sweep_worker.py STORE COUNT [SECONDS]: run the cells of ``grid(COUNT)``, each taking about SECONDS;
every call of ``fit`` is noted in STORE/calls.
"""

import json
import os
import random
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


def fit(arguments: list[str], seconds: float = 0.0, calls: Path | None = None) -> int:
    """Write the folder of a run whose loss is rate + seed/10 at step 20, or that diverged at step 7."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    config = yaml.safe_load(Path(options["--config"]).read_text())
    rate, seed = config["model"]["lr"], config["seed_everything"]
    if calls is not None:
        with calls.open("a") as file:
            file.write(f"{Path(options['--config']).stem}\n")
    folder = Path(options["--logs"]) / options["--name"] / "version_0"
    folder.mkdir(parents=True)
    rows = ["step,train/loss,test/loss", "10,0.5,", f"10,,{rate + 1}", f"20,0.25,{rate + seed / 10}"]
    (folder / "metrics.csv").write_text("\n".join(rows[:2] if rate == 1 else rows) + "\n")
    time.sleep(seconds * random.uniform(0.5, 1.5))
    state = {"state": "diverged", "step": 7} if rate == 1 else {"state": "finished", "step": 20}
    (folder / "status.json").write_text(json.dumps({**state, "test/lowest_loss": rate}))
    return 0


def made_by(accelerator: object) -> dict[str, object]:
    return {"device": "cpu", "at": "now"}


if __name__ == "__main__":
    worker.made_by = made_by  # which imports torch
    folder, count, seconds = Path(sys.argv[1]), int(sys.argv[2]), float((*sys.argv[3:], 0)[0])
    store = Store(folder, create=True)
    print("ready", os.getpid(), flush=True)
    done = worker.work(grid(count), store, lambda arguments: fit(arguments, seconds, folder / "calls"))
    print(json.dumps({"ran": done.ran, "failed": done.failed, "elsewhere": done.elsewhere}))
