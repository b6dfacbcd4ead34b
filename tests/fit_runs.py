"""Tiny runs of the real command on data in the official layout, and how two runs are compared.

``Runs`` lives in one folder with 60 + 10 Fashion-MNIST-like examples and a base config: an MLP 784-16-10,
momentum SGD, B = 10, so 6 steps per epoch and 20 steps in all.
"""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback
from official_formats import write_fashion_mnist

from sgdlit.cli.main import main
from sgdlit.data.finite.fashion_mnist import FashionMNIST
from sgdlit.foundations.seals import unsealed

TIMES = ("train/steps_per_second", "measures/time_share")


class SignalAt(Callback):
    """Sends this process a signal at the end of the given steps, while their batch is being finished.

    Args:
        steps: numbers of updates made.
        number: the signal.
        rank: the only rank that is sent it; None for all.
        times: how often.
        mark: a file that the first signal makes; where it is, no other is sent.
    """

    def __init__(
        self,
        steps: list[int],
        number: int = 15,
        rank: int | None = None,
        times: int = 1,
        mark: str | None = None,
    ) -> None:
        self.steps, self.number, self.rank, self.times = steps, number, rank, times
        self.mark = mark and Path(mark)

    def next_due(self, step: int) -> int | None:
        return min((s for s in self.steps if s > step), default=None)

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        complete = trainer.fit_loop.epoch_loop.batch_progress.current.ready % trainer.accumulate_grad_batches
        meant = self.rank in (None, trainer.global_rank)
        if meant and trainer.global_step in self.steps and complete == 0:
            if self.mark:
                if self.mark.exists():
                    return
                self.mark.touch()
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


class Runs:
    """Starts ``fit`` in a folder, with values of the base config overridden as on the command line."""

    def __init__(self, folder: Path, train: int = 70, test: int = 20, write: bool = True) -> None:
        self.folder, self.config = folder, folder / "base.yaml"
        if not write:  # all is there
            return
        write_fashion_mnist(folder, train, test)
        self.config.write_text(yaml.safe_dump(base_config(folder)))

    def fit(self, name: str, *arguments: str) -> int:
        """Run ``fit`` under a name, in this process; its exit code."""
        return main(self.arguments(name, *arguments))

    def arguments(self, name: str, *arguments: str) -> list[str]:
        return ["fit", "--config", str(self.config), "--name", name, *arguments]

    def resume(self, name: str, *arguments: str) -> int:
        return main(["fit", "--resume", str(self.path(name)), *arguments])

    def path(self, name: str) -> Path:
        return self.folder / "logs" / name / "version_0"

    def status(self, name: str) -> dict[str, Any]:
        return unsealed(json.loads((self.path(name) / "status.json").read_text()))

    def rows(self, name: str) -> list[dict[str, str]]:
        """``metrics.csv`` without the columns that are a matter of time."""
        with (self.path(name) / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]

    def checkpoint(self, name: str, which: str = "resume") -> dict[str, Any]:
        path = self.path(name) / "checkpoints" / f"{which}.ckpt"
        return torch.load(path, map_location="cpu", weights_only=True)


def datamodule(runs: Runs, accumulate: int = 1, **values: Any) -> FashionMNIST:
    """The data of the base config, with a clock in the trainer's place, for loops by hand."""
    data = FashionMNIST(root=str(runs.folder), val_size=10, **{"batch_size": 10, "seed": 0, **values})
    data.setup()
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(
        global_step=0, accumulate_grad_batches=accumulate, world_size=1, global_rank=0, strategy=strategy
    )
    return data


def base_config(folder: Path) -> dict[str, Any]:
    network = {"class_path": "sgdlit.models.MLP", "init_args": {"widths": [784, 16, 10]}}
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.9}}
    data = {"root": str(folder), "val_size": 10, "batch_size": 10}
    return {
        "logs": str(folder / "logs"),
        "model": {
            "class_path": "sgdlit.training.module.Training",
            "init_args": {"network": network, "optimizer": optimizer},
        },
        "data": {"class_path": "sgdlit.data.finite.fashion_mnist.FashionMNIST", "init_args": data},
        "trainer": {
            "max_steps": 20,
            "accelerator": "cpu",
            "log_every_n_steps": 3,
            "enable_progress_bar": False,
        },
    }


def differences(a: Any, b: Any, where: str = "", tolerance: float = 0.0) -> list[str]:
    """Where two trees of tensors and values differ: bitwise, or by more than ``tolerance · (1 + size)``."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.shape == b.shape and (
            torch.equal(a, b) or bool(((a - b).abs() <= tolerance * (1 + b.abs())).all())
        ):
            return []
        return [f"{where}: tensors differ"]
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted({*a, *b}, key=str)
        missing = [f"{where}.{k}: only in one" for k in keys if (k in a) != (k in b)]
        return missing + [
            d for k in keys if k in a and k in b for d in differences(a[k], b[k], f"{where}.{k}", tolerance)
        ]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [
            d
            for k, (x, y) in enumerate(zip(a, b, strict=True))
            for d in differences(x, y, f"{where}[{k}]", tolerance)
        ]
    try:
        same = a == b or abs(float(a) - float(b)) <= tolerance * (1 + abs(float(b)))
    except (TypeError, ValueError):
        same = False
    return [] if same else [f"{where}: {a!r} and {b!r}"]


PARTS = (
    "state_dict",
    "optimizer_states",
    "lr_schedulers",
    "sgdlit_best",
    "sgdlit_rows",
    "global_step",
    "epoch",
)


def run_differences(runs: Runs, one: str, other: str, tolerance: float = 0.0) -> list[str]:
    """Where two runs ended differently: checkpoints, records and tables (all but the times)."""
    found = []
    for which in ("resume", "best"):
        there = [(runs.path(name) / "checkpoints" / f"{which}.ckpt").is_file() for name in (one, other)]
        if which == "best" and not any(there):
            continue  # an ensemble has none
        a, b = runs.checkpoint(one, which), runs.checkpoint(other, which)
        parts = [*PARTS, *({"sgdlit_mixing"} & a.keys())]
        found += differences({k: a[k] for k in parts}, {k: b[k] for k in parts}, which, tolerance)
    found += differences(runs.rows(one), runs.rows(other), "metrics", tolerance)
    shown = [
        {tag: values for tag, values in charts(runs.path(name)).items() if not tag.startswith(TIMES)}
        for name in (one, other)
    ]
    found += differences(*shown, "charts", tolerance)
    return found + differences(runs.status(one), runs.status(other), "status", tolerance)


def charts(folder: Path) -> dict[str, dict[int, float]]:
    """TensorBoard's curves of a run, by name and step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def processes(
    commands: list[list[str]], environments: list[dict[str, str]], cwd: Path
) -> list[subprocess.Popen]:
    """Start ``python ARGUMENTS`` for each, with one thread each, and their output kept in ``cwd/out_K``."""
    started = []
    for k, (command, environment) in enumerate(zip(commands, environments, strict=True)):
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        shared = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path.rstrip(os.pathsep)}
        with (cwd / f"out_{k}").open("w") as out:
            started.append(
                subprocess.Popen(
                    [sys.executable, *command],
                    env=os.environ | shared | environment,
                    cwd=cwd,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            )
    return started


PATIENCE = 900.0
"""Seconds after which a process is taken to hang: no machine is so busy that what works needs as many."""


def wait_until(condition: Callable[[], Any], process: subprocess.Popen | None = None) -> Any:
    """The first true value of ``condition()``; an error where the process that is to bring it about ends
    without, or where all seems to hang."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        over = process is not None and process.poll() is not None
        value = condition()
        if value:
            return value
        if over:
            raise ChildProcessError(f"it ended with code {process.returncode} before")
        time.sleep(0.05)
    raise TimeoutError(f"nothing came of it in {PATIENCE} s")


if __name__ == "__main__":  # several runs in one process: the lists of their arguments as JSON
    print(json.dumps([main(arguments) for arguments in json.loads(sys.argv[1])]))
