"""The runs of a sweep in TensorBoard's table of hyper-parameters: ``--logdir STORE/tensorboard``."""

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
    from torch.utils.tensorboard.summary import scalar
    from torch.utils.tensorboard.writer import FileWriter

    from sgdlit.runs.charts import table_line

    metrics = {name: numbers["final"] for name, numbers in result.metrics.items()}
    partial = target.with_name(f".{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    writer = FileWriter(str(partial))
    given = result.point | {"seed": result.seed, "state": result.state}
    for summary in table_line(given, list(metrics)):
        writer.add_summary(summary)
    for name, value in metrics.items():
        writer.add_summary(scalar(name, float("nan") if value is None else value), result.step)
    writer.close()
    partial.rename(target)
