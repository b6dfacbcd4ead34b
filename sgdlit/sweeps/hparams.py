"""The runs of a sweep in TensorBoard's table of hyper-parameters: ``--logdir STORE/tensorboard``."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from sgdlit.sweeps.store import Result


def write_hparams(folder: Path, results: Iterable[Result]) -> int:
    """One folder per run, with its point, its seed and the final value of every metric.

    Returns:
        how many were written: those that are there already stay as they are.
    """
    there = {path.name for path in folder.glob("*") if path.is_dir()}
    new = [result for result in results if _name(result) not in there]
    for result in new:
        _write(folder / _name(result), result)
    return len(new)


def _name(result: Result) -> str:
    """A run that was replaced by another has a folder of its own."""
    return f"{result.key}_{result.made_by['at'].replace(':', '')}"


def _write(target: Path, result: Result) -> None:
    from torch.utils.tensorboard.summary import hparams, scalar
    from torch.utils.tensorboard.writer import FileWriter

    values = {
        key: v if isinstance(v, bool | int | float | str) else str(v) for key, v in result.point.items()
    }
    metrics = {name: numbers["final"] for name, numbers in result.metrics.items()}
    partial = target.with_name(f".{target.name}.{os.getpid()}")  # several sweeps may end at once
    shutil.rmtree(partial, ignore_errors=True)
    writer = FileWriter(str(partial))
    given = values | {"seed": result.seed, "state": result.state}
    for summary in hparams(given, dict.fromkeys(metrics, 0.0)):
        writer.add_summary(summary)
    for name, value in metrics.items():
        writer.add_summary(scalar(name, float("nan") if value is None else value), result.step)
    writer.close()
    try:
        partial.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(partial, ignore_errors=True)
