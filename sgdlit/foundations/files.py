"""Small files that are there whole or as they were before, and tables as CSV.

Everything that the package keeps as text goes through here; only ``metrics.csv``, which grows while a run
is trained, has a writer of its own (:mod:`sgdlit.runs.metrics_file`).
"""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sgdlit.foundations.errors import UserError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a small file, of text or of bytes, to a temporary name beside ``path``, and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # a link that somebody put there is not followed
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Iterable[str] | None = None) -> Path:
    """Write rows as CSV, atomically; returns ``path``.

    Args:
        path: the file.
        rows: may have different columns; what a row lacks, and None, is an empty field.
        columns: those that are written, in this order; by default all, in order of first appearance.
    """
    if columns is None:
        columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())
    return path


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, as they are written; an empty field is an empty text.

    Raises:
        OSError: the file is missing or cannot be read.
        UserError: it is no text, or no CSV.
    """
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return list(csv.DictReader(file, restval=""))
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: not a table of text ({error})") from error
