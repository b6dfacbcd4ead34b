"""What became of a run, or of each member of an ensemble: for the folder, and for the closing line."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sgdlit.foundations.files import write_table
from sgdlit.runs.folder import MEMBERS, write_status

Columns = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Outcome:
    """One run that was trained alone, or one member of an ensemble.

    Args:
        point: what tells this member from the others; nothing for a run that was trained alone.
        state: ``finished`` or ``diverged`` (``stopped``, ``running`` and ``failed`` are those of a run whose
            outcome is not known yet).
        step: updates made; for a diverged run those after which its loss was not finite.
        reached: its records.
        columns: name -> steps int64 ``[k]`` and values float64 ``[k]``, where the column has a value.
    """

    point: dict[str, Any]
    state: str
    step: int
    reached: dict[str, float]
    columns: Columns = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Its entry in the status of an ensemble."""
        return {"point": self.point, "state": self.state, "step": self.step, "reached": self.reached}


def outcomes(
    points: Sequence[Mapping[str, Any]],
    diverged_at: Sequence[int | None],
    state: str,
    step: int,
    reached: Sequence[Mapping[str, float]],
) -> list[Outcome]:
    """How each member ended.

    Args:
        points: what distinguishes each member.
        diverged_at: the step at which its loss stopped being finite, or None.
        state: of the run as a whole.
        step: updates made.
        reached: each member's best.
    """
    return [
        Outcome(
            point=dict(point),
            state=state if diverged is None else "diverged",
            step=step if diverged is None else diverged,
            reached=dict(best),
        )
        for point, diverged, best in zip(points, diverged_at, reached, strict=True)
    ]


def write_members(folder: Path, state: str, step: int, members: Sequence[Outcome]) -> None:
    """Record how an ensemble ended: in its status, and member by member in ``members.csv``.

    Args:
        folder: of the run.
        state: of the run as a whole.
        step: updates made.
        members: how each ended.
    """
    write_status(folder, state, step, members=[member.as_dict() for member in members])
    rows = [
        {"member": k, **m.point, "state": m.state, "step": m.step, **m.reached} for k, m in enumerate(members)
    ]
    write_table(folder / MEMBERS, rows)


def summary(members: Sequence[Outcome]) -> str:
    """One line: how many diverged, and the mean and standard deviation of what the others reached."""
    others = [m for m in members if m.state != "diverged"]
    lost = len(members) - len(others)
    parts = [f"{len(members)} members, {lost} diverged" if lost else f"{len(members)} members"]
    for name in dict.fromkeys(name for m in others for name in m.reached):
        values = [m.reached[name] for m in others if name in m.reached]
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1))
        among = f"± {spread:.2g}" if len(values) > 1 else "(one member)"
        parts.append(f"{name} {mean:.4g} {among}")
    return ", ".join(parts)
