"""``metrics.csv``: one row per logged step, written as it happens, continued after a resume."""

import csv
import hashlib
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import read_table, write_table
from sgdlit.runs.folder import CONFIG, METRICS, checkpoint_path


class MetricsFile(Logger):
    """A logger that appends rows to ``<folder>/metrics.csv``; the first column is the step.

    Lightning's own CSV logger deletes the table of the run that it continues. This one keeps the first
    ``keep`` rows, which were there when the checkpoint was written (``rows`` counts them), and drops the
    later ones, which the resumed run measures again. ``digest`` is of all rows: a table that says something
    else than it did is found by it.
    """

    def __init__(self, folder: Path, keep: int = 0) -> None:
        super().__init__()
        self.path = folder / METRICS
        self.columns, self.rows, self.digest = ["step"], 0, ""
        self._file: TextIO | None = None
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
        new = [name for name in row if name not in self.columns]
        table = self._file
        if new or table is None:
            self.columns += new
            table = self._open_again()
        try:
            csv.DictWriter(table, self.columns, lineterminator="\n").writerow(row)
            table.flush()
        except OSError as error:
            raise OSError(
                error.errno, f"row of step {step} not written ({error.strerror})", str(self.path)
            ) from error
        self.rows, self.digest = self.rows + 1, digest_of([row], self.digest)

    @rank_zero_only
    def keep_through_a_loss_of_power(self) -> None:
        """Bring all rows to the disk: before a checkpoint that counts on them."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def _open_again(self) -> TextIO:
        """Write the table with its present columns, and go on at its end."""
        self._close()
        write_table(self.path, read_table(self.path) if self.path.exists() else [], self.columns)
        self._file = self.path.open("a", newline="")
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._close()

    @rank_zero_only
    def _keep(self, count: int) -> None:
        rows = read_table(self.path)[:count]
        self.columns, self.rows = list(rows[0]) if rows else self.columns, len(rows)
        self.digest = digest_of(rows)
        write_table(self.path, rows, self.columns)


def digest_of(rows: Sequence[Mapping[str, Any]], before: str = "") -> str:
    """Digest of rows as text, after those of which ``before`` is the digest; empty fields do not count.

    An added column changes the text of a table, and not its digest.
    """
    for row in rows:
        fields = [f"{name}={value}" for name, value in row.items() if value not in ("", None)]
        before = hashlib.blake2b("\n".join([before, *sorted(fields)]).encode(), digest_size=16).hexdigest()
    return before


def check_table(folder: Path, count: int, digest: str | None) -> None:
    """Refuse to go on where the table is not as it was when the checkpoint was written.

    Args:
        folder: of the run.
        count: rows that there were.
        digest: of these rows; None where nobody knows.

    Raises:
        UserError: rows are missing or have changed.
    """
    path = folder / METRICS
    rows = read_table(path)[:count] if path.is_file() else []
    if len(rows) < count or digest not in (None, digest_of(rows)):
        what = (
            f"it has {len(rows)} of {count} rows" if len(rows) < count else f"one of its {count} rows changed"
        )
        raise UserError(
            f"{path}: not as the checkpoint left it: {what}; allowed: the table of the run, or a new run "
            f"that goes on from the checkpoint (fit --config {folder / CONFIG} --ckpt_path "
            f"{checkpoint_path(folder, 'resume')})"
        )
