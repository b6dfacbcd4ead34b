"""What a run of the benchmarks found, as JSON, and what an earlier run on the same machine found."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Row, Timing
from benchmarks.limits import Limits
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import write_atomically


def write(path: Path, facts: dict[str, Any], found: Limits, rows: Sequence[Row]) -> None:
    """Keep a run: ``facts`` say where it was, ``found`` what the machine does at most."""
    content = {**facts, "limits": found._asdict(), "rows": [_entry(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def _entry(row: Row) -> dict[str, Any]:
    rounds = list(row.seconds.rounds) if isinstance(row.seconds, Timing) else [row.seconds]
    return {**row._asdict(), "seconds": float(row.seconds), "rounds": rounds}


def earlier(folder: Path, device: str) -> Path | None:
    """The newest run on this device in a folder."""
    for path in sorted(folder.glob("*.json"), reverse=True):
        if json.loads(path.read_text(encoding="utf-8"))["device"] == device:
            return path
    return None


def seconds_of_rows(path: Path) -> dict[tuple[str, str], float]:
    """The seconds that a run found, by group and work.

    Raises:
        UserError: the file is none of a run.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return {(row["group"], row["work"]): row["seconds"] for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--against: {path}: not what a run of the benchmarks left ({error})") from error
