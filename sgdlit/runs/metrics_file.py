"""``metrics.csv``: one row per logged step, written while the run goes on, continued after a resume."""

import csv
import hashlib
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from io import FileIO, StringIO
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import read_table, write_table
from sgdlit.runs.bursts import Bursts
from sgdlit.runs.folder import CONFIG, METRICS, checkpoint_path


class MetricsFile(Logger):
    """A logger that appends rows to ``<folder>/metrics.csv``; the first column is the step.

    Lightning's own CSV logger deletes the table of the run that it continues. This one keeps the first
    ``keep`` rows, which were there when the checkpoint was written (``rows`` counts them), and drops the
    later ones, which the resumed run measures again. By its ``seal`` a table is found that says something
    else than it did. Rows that follow each other fast are written some at a time.
    """

    def __init__(self, folder: Path, keep: int = 0) -> None:
        super().__init__()
        self.path = folder / METRICS
        self.columns, self._rows = ["step"], 0
        self._bursts = Bursts(self._append)
        self._before = ""  # digest of all rows but the last
        self._last: Mapping[str, Any] = {}
        self._file: FileIO | None = None  # without a buffer, so that what could not be written is nowhere
        self._added: dict[str, float] = {}  # the last row, where it was added
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
        self._bursts.add({k: v if isinstance(v, int) else float(v) for k, v in metrics.items()}, step)

    def _append(self, numbers: Mapping[str, Any], step: int | None) -> None:
        before = digest_of([self._last], self._before)
        self._write({"step": step, **numbers})
        self._before = before
        self._rows += 1
        self._added = {}

    @property
    def rows(self) -> int:
        """How many the file has; those that waited are written first."""
        self._bursts.write_all()
        return self._rows

    @rank_zero_only
    def add_metrics(self, metrics: dict[str, float], step: int) -> None:
        """As ``log_metrics``, into the last row if that was added at this step and has none of these."""
        self._bursts.write_all()
        last = self._added
        if last.get("step") != step or last.keys() & metrics.keys():
            self._append(metrics, step)
            self._added = {"step": step, **metrics}
            return
        row = {**last, **metrics}
        self._write(row, in_place_of_last=True)
        self._added = row

    def _write(self, row: dict[str, Any], in_place_of_last: bool = False) -> None:
        """At the end of the file, which stays as it was where there is no room."""
        new = [name for name in row if name not in self.columns]
        table = self._file
        try:
            if new or table is None:
                self.columns += new
                table = self._open_again()
            _put(table, self._line(row), self._line(self._last) if in_place_of_last else b"")
        except OSError as error:
            why = f"row of step {row['step']} not written ({error.strerror})"
            raise OSError(error.errno, why, str(self.path)) from error
        self._last = row

    def _line(self, row: Mapping[str, Any]) -> bytes:
        line = StringIO()
        csv.DictWriter(line, self.columns, lineterminator="\n").writerow(row)
        return line.getvalue().encode("utf-8")

    @rank_zero_only
    def keep_through_a_loss_of_power(self) -> None:
        """Bring all rows to the disk: before a checkpoint that counts on them."""
        self._bursts.write_all()
        if self._file is not None:
            os.fsync(self._file.fileno())

    @property
    def seal(self) -> dict[str, Any]:
        """What a checkpoint keeps of the rows, to know them again: see :func:`check_table`."""
        self._bursts.write_all()
        return {"digest": self._before, "last": fields_of(self._last)}

    def _open_again(self) -> FileIO:
        """Write the table with its present columns, and go on at its end."""
        self._close()
        write_table(self.path, read_table(self.path) if self.path.exists() else [], self.columns)
        self._file = FileIO(self.path, "r+")
        self._file.seek(0, os.SEEK_END)
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        try:
            self._bursts.write_all()
        finally:
            self._close()

    @rank_zero_only
    def _keep(self, count: int) -> None:
        rows = read_table(self.path)[:count]
        named = list(rows[0]) if rows else self.columns
        # A column that only dropped rows had is not there yet.
        self.columns = [name for name in named if name == "step" or any(row[name] for row in rows)]
        self._rows = len(rows)
        self._before, self._last = digest_of(rows[:-1]), rows[-1] if rows else {}
        write_table(self.path, rows, self.columns)


def _put(table: FileIO, line: bytes, last: bytes) -> None:
    """Write a line in the place of the last, or after it where ``last`` is empty; all of it, or nothing."""
    if last:
        table.seek(-len(last), os.SEEK_CUR)
    written = 0
    try:
        while written < len(line):
            written += table.write(line[written:])
    except OSError:
        table.seek(-written, os.SEEK_CUR)
        table.write(last)
        table.truncate()
        raise


def fields_of(row: Mapping[str, Any]) -> dict[str, str]:
    """What a row of the table says, as text; empty fields do not count."""
    return {name: str(value) for name, value in row.items() if value not in ("", None)}


def digest_of(rows: Sequence[Mapping[str, Any]], before: str = "") -> str:
    """Digest of rows after those of which ``before`` is the digest; no row changes nothing.

    An added column changes the text of a table, and not its digest.
    """
    for row in filter(None, map(fields_of, rows)):
        text = "\n".join([before, *sorted(f"{name}={value}" for name, value in row.items())])
        before = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return before


def seal_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """:meth:`MetricsFile.seal` of rows that were written otherwise; None where there is no row."""
    return {"digest": digest_of(rows[:-1]), "last": fields_of(rows[-1])} if rows else None


def check_table(folder: Path, count: int, seal: dict[str, Any] | None) -> None:
    """Refuse to go on where the table is not as it was when the checkpoint was written.

    The last row may have got more numbers since.

    Args:
        folder: of the run.
        count: rows that there were.
        seal: of these rows; None where nobody knows.

    Raises:
        UserError: rows are missing or have changed.
    """
    path = folder / METRICS
    rows = read_table(path)[:count] if path.is_file() else []
    what = f"it has {len(rows)} of {count} rows" if len(rows) < count else ""
    if not what and seal is not None and count:
        same = digest_of(rows[:-1]) == seal["digest"] and seal["last"].items() <= fields_of(rows[-1]).items()
        what = "" if same else f"one of its {count} rows has changed"
    if what:
        raise UserError(
            f"{path}: not as the checkpoint left it: {what}; allowed: the table of the run, or a new run "
            f"that goes on from the checkpoint (fit --config {folder / CONFIG} --ckpt_path "
            f"{checkpoint_path(folder, 'resume')})"
        )
