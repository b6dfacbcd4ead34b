"""What came out of a run, read from its folder: ``status.json`` and ``metrics.csv``.

The folder of an ensemble holds several runs: ``members`` in its status says what each one was and how it
ended, and a column ``member`` of its table says whose row it is. A single run has neither.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Columns = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Outcome:
    """One run.

    Args:
        state: ``finished`` or ``diverged`` (``stopped``, ``running`` and ``failed`` are those of a run whose
            outcome is not known yet).
        step: updates made; for a diverged run those after which its loss was not finite.
        reached: its records.
        columns: name -> steps int64 ``[k]`` and values float64 ``[k]``, where the column has a value.
        point: what tells this member from the others of its ensemble; None for a single run.
    """

    state: str
    step: int
    reached: dict[str, float]
    columns: Columns
    point: dict[str, Any] | None = None


def run_state(folder: Path) -> str | None:
    """How the run in this folder stands as a whole; None where that was not written."""
    try:
        return json.loads((folder / "status.json").read_text())["state"]
    except (OSError, ValueError):
        return None


def read_run(folder: Path) -> list[Outcome]:
    """The outcome of the run, or of every member of the ensemble, in this folder.

    Raises:
        FileNotFoundError: the folder is not that of a run.
    """
    status = json.loads((folder / "status.json").read_text())
    rows = _rows(folder / "metrics.csv")
    if "members" not in status:
        return [_outcome(status, rows)]
    own: list[list[dict[str, str]]] = [[] for _ in status["members"]]
    for row in rows:
        own[int(row.pop("member"))].append(row)
    return [_outcome(member, mine) for member, mine in zip(status["members"], own, strict=True)]


def _outcome(status: dict[str, Any], rows: list[dict[str, str]]) -> Outcome:
    known = ("state", "step", "point", "reached")
    reached = status.get("reached") or {k: v for k, v in status.items() if k not in known}
    return Outcome(status["state"], status["step"], reached, _columns(rows), status.get("point"))


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _columns(rows: list[dict[str, str]]) -> Columns:
    columns: Columns = {}
    for name in rows[0] if rows else ():
        if name != "step":
            given = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
            steps, values = zip(*given, strict=True) if given else ((), ())
            columns[name] = np.array(steps, np.int64), np.array(values, np.float64)
    return columns
