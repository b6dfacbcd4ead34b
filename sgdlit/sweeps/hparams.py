"""The runs of a sweep in TensorBoard's table of hyper-parameters: ``--logdir STORE/tensorboard``."""

import os
import shutil
import socket
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

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
    """The folder of one run. A writer of torch has a thread, which takes longer than what is written here."""
    from torch.utils.tensorboard.summary import scalar

    from sgdlit.runs.charts import table_line

    metrics = {name: numbers["final"] for name, numbers in result.metrics.items()}
    given = result.point | {"seed": result.seed, "state": result.state}
    summaries = [(summary, 0) for summary in table_line(given, list(metrics))]
    for name, value in metrics.items():
        summaries.append((scalar(name, float("nan") if value is None else value), result.step))
    partial = target.with_name(f".{target.name}.{os.getpid()}")  # several sweeps may end at once
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_events(partial, summaries)
    try:
        partial.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(partial, ignore_errors=True)


def _write_events(folder: Path, summaries: Sequence[tuple[Any, int]]) -> None:
    """An event file of TensorBoard: summaries, each at its step."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    now = time.time()
    with (folder / f"events.out.tfevents.{int(now)}.{socket.gethostname()}").open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for summary, step in summaries:
            writer.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
