"""``metrics.csv``: one row per logged step, written as it happens, continued after a resume."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any, TextIO

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from sgdlit.foundations.files import read_table, write_table
from sgdlit.runs.folder import METRICS


class MetricsFile(Logger):
    """A logger that appends rows to ``<folder>/metrics.csv``; the first column is the step.

    Lightning's own CSV logger deletes the table of the run that it continues. This one keeps the first
    ``keep`` rows, which were there when the checkpoint was written (``rows`` counts them), and drops the
    later ones, which the resumed run measures again.
    """

    def __init__(self, folder: Path, keep: int = 0) -> None:
        super().__init__()
        self.path = folder / METRICS
        self.columns, self.rows = ["step"], 0
        self._file: TextIO | None = None
        self._added: dict[str, float] = {}  # the last row, where it was added
        self._last_row = 0  # where it begins in the file
        if self.path.exists():
            self._keep(keep)

    @property
    def name(self) -> str:
        return self.path.parent.parent.name

    @property
    def version(self) -> str:
        return self.path.parent.name

    @property
    def log_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration of the run is ``config.yaml``, beside the table."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": step, **{k: v if isinstance(v, int) else float(v) for k, v in metrics.items()}}
        self._write(row)
        self.rows += 1
        self._added = {}

    @rank_zero_only
    def add_metrics(self, metrics: dict[str, float], step: int) -> None:
        """As ``log_metrics``, into the last row if that was added at this step and has none of these."""
        last = self._added
        if last.get("step") != step or last.keys() & metrics.keys():
            self.log_metrics(metrics, step)
            self._added = {"step": step, **metrics}
            return
        table = self._file or self._open_again()
        table.seek(self._last_row)
        table.truncate()
        self._added = {**last, **metrics}
        self._write(self._added)

    def _write(self, row: dict[str, Any]) -> None:
        """At the end of the file."""
        new = [name for name in row if name not in self.columns]
        table = self._file
        if new or table is None:
            self.columns += new
            table = self._open_again()
        self._last_row = table.tell()
        csv.DictWriter(table, self.columns, lineterminator="\n").writerow(row)
        table.flush()

    def _open_again(self) -> TextIO:
        """Write the table with its present columns, and go on at its end."""
        self._close()
        write_table(self.path, read_table(self.path) if self.path.exists() else [], self.columns)
        self._file = self.path.open("a", newline="")
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._close()

    @rank_zero_only
    def _keep(self, count: int) -> None:
        rows = read_table(self.path)[:count]
        self.columns, self.rows = list(rows[0]) if rows else self.columns, len(rows)
        write_table(self.path, rows, self.columns)
