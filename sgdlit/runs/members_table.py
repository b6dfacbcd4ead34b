"""What became of the members of an ensemble: for ``status.json``, a table, and the closing line."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgdlit.runs.folder import write_atomically

Outcome = dict[str, Any]


def outcomes(
    points: Sequence[Mapping[str, Any]],
    diverged_at: Sequence[int | None],
    state: str,
    step: int,
    reached: Sequence[Mapping[str, float]],
) -> list[Outcome]:
    """How each member ended: its ``point``, ``state``, the ``step`` of that, and what it ``reached``.

    Args:
        points: what distinguishes each member.
        diverged_at: the step at which its loss stopped being finite, or None.
        state: of the run as a whole.
        step: updates made.
        reached: each member's best.
    """
    found = []
    for point, diverged, best in zip(points, diverged_at, reached, strict=True):
        how = {"state": state, "step": step} if diverged is None else {"state": "diverged", "step": diverged}
        found.append({"point": dict(point), **how, "reached": dict(best)})
    return found


def write_table(path: Path, members: Sequence[Outcome]) -> None:
    """``members.csv``: for each member what distinguishes it, how it ended and what it reached."""
    rows = [
        {"member": k, **m["point"], "state": m["state"], "step": m["step"], **m["reached"]}
        for k, m in enumerate(members)
    ]
    columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def summary(members: Sequence[Outcome]) -> str:
    """One line: how many diverged, and the mean and standard deviation of what the others reached."""
    others = [m for m in members if m["state"] != "diverged"]
    lost = len(members) - len(others)
    parts = [f"{len(members)} members, {lost} diverged" if lost else f"{len(members)} members"]
    for name in dict.fromkeys(name for m in others for name in m["reached"]):
        values = [m["reached"][name] for m in others if name in m["reached"]]
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1))
        parts.append(f"{name} {mean:.4g} ± {spread:.2g}")
    return ", ".join(parts)
