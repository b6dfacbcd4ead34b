"""``measures.csv``: what ``measure --run`` took of a run afterwards, a row per step (and member)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sgdlit.foundations.files import read_table, write_table
from sgdlit.runs.folder import MEASURES
from sgdlit.runs.outcomes import Columns

SETTINGS = ("examples", "mode")
"""The columns of text, with which a row was measured."""
_NO_VALUES = ("step", "member", *SETTINGS)


class MeasuresFile:
    """The table in a run's folder, written whole after every step.

    Rows of other settings stay. Of the same settings a value that is measured again takes the place of every
    older one in its column, for the same member, so that no column mixes what two calls have found.

    Args:
        folder: of the run.
        settings: with which the rows are measured: a column each.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / MEASURES
        self.settings = {name: str(value) for name, value in settings.items()}
        self._rows = read_table(self.path) if self.path.exists() else []
        self._new: set[tuple[str, str]] = set()  # member and column that this call has begun anew

    def write(self, step: int, rows: Mapping[int | None, Mapping[str, float]]) -> None:
        """Add the values of a step.

        Args:
            step: updates made.
            rows: by the member's number; None for a run that was trained alone.
        """
        for member, values in rows.items():
            whose = "" if member is None else str(member)
            for name in values:
                self._begin_anew(whose, name)
            row = self._row(step, whose)
            row |= {name: repr(float(value)) for name, value in values.items()}
        self._rows.sort(key=lambda row: (int(row["step"]), int(row.get("member") or 0)))
        everyone = dict.fromkeys(name for row in self._rows for name in row)
        used = [name for name in everyone if any(row.get(name) for row in self._rows)]
        write_table(self.path, self._rows, used)

    def _is_own(self, row: Mapping[str, str], member: str) -> bool:
        same = all(row.get(name) == value for name, value in self.settings.items())
        return same and row.get("member", "") == member

    def _begin_anew(self, member: str, name: str) -> None:
        if (member, name) not in self._new:
            self._new.add((member, name))
            for row in self._rows:
                if self._is_own(row, member):
                    row[name] = ""

    def _row(self, step: int, member: str) -> dict[str, str]:
        """The row of a step, which is made where there is none."""
        for row in self._rows:
            if row["step"] == str(step) and self._is_own(row, member):
                return row
        self._rows.append({"step": str(step), "member": member, **self.settings})
        return self._rows[-1]


def by_settings(table: Mapping[str, np.ndarray], member: int) -> dict[str, Columns]:
    """The columns of a member by what they were measured on, such as ``500 examples``.

    Args:
        table: ``measures.csv`` as columns of equal length, NaN where nothing was measured.
        member: number in the ensemble; 0 of a run that was trained alone.
    """
    found: dict[str, Columns] = {}
    if not table:
        return found
    own = table["member"] == member if "member" in table else np.full(len(table["step"]), member == 0)
    examples, modes = (table[name] for name in SETTINGS)
    for n, mode in dict.fromkeys(zip(examples[own].tolist(), modes[own].tolist(), strict=True)):
        rows = own & (examples == n) & (modes == mode)
        source = f"{n} examples" if mode == "eval" else f"{n} examples in {mode} mode"
        columns = {name: _points(table, name, rows) for name in table if name not in _NO_VALUES}
        found[source] = {name: points for name, points in columns.items() if len(points[0])}
    return found


def _points(table: Mapping[str, np.ndarray], name: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a column, in these rows, where it was measured."""
    own = rows & ~np.isnan(table[name])
    return table["step"][own], table[name][own]
