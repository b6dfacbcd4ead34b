"""Tables of sweeps of a few seeds: centers by grid and axes, compared with margins, and drawn as lines."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS
from sgdlit.foundations.files import read_table
from sgdlit.papers.claim import Finding
from sgdlit.papers.paper import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SEEDS = "none: means of two seeds, compared with a margin"
LR, STRENGTH, REPEATS = "model.optimizer.lr", "model.reg_strength", "data.repeats"
_KEYS = (LR, STRENGTH, REPEATS)
Found = dict[str, dict[tuple[float, ...], float]]


def lrs(*exponents: float) -> dict[str, list[str]]:
    return {LR: [f"2^{k}" for k in exponents]}


def read(store: Path, grids: Mapping[str, list[dict[str, Any]]]) -> tuple[list[Row], Found]:
    """The table of a sweep, and its centers by grid and by the values of rate, strength and n.

    Among the latter a point without a center, where runs diverged, is infinitely large.
    """
    found: Found = {grid: {} for grid in grids}
    rows: list[Row] = []
    for line in read_table(store / "table.csv"):
        keys = [k for entry in grids[line["grid"]] for k in entry if k in (LR, STRENGTH)]
        keys += [k for entry in grids[line["grid"]] for k in entry if k == REPEATS]
        center = float(line["center"]) if line["center"] else None
        found[line["grid"]][tuple(float(line[k]) for k in keys)] = math.inf if center is None else center
        at = {k.rsplit(".", 1)[-1]: float(line[k]) if line.get(k) else None for k in _KEYS}
        rows.append({"grid": line["grid"], **at, "center": center})
    return rows, found


def finding(claim: str, statement: str, predicted: str, value: float, note: str = "") -> Finding:
    """``predicted`` is ``< a``, ``> a`` or ``a ± b``."""
    if predicted[0] in "<>":
        limit = float(predicted[2:])
        holds = value < limit if predicted[0] == "<" else value > limit
    else:
        middle, width = map(float, predicted.split(" ± "))
        holds = abs(value - middle) <= width * max(middle, 1e-300)
    holds = holds and math.isfinite(value)  # else runs diverged
    return Finding(claim, statement, predicted, f"{value:.3f}", bool(holds), _SEEDS, note)


def farthest(ratios: Sequence[float]) -> float:
    return max(ratios, key=lambda ratio: math.inf if math.isnan(ratio) else abs(ratio - 1))


def drawn_at(ax: "Axes") -> list[float]:
    """The places on the x axis of all points of all lines."""
    return [x for line in ax.lines for x in np.asarray(line.get_xdata(), dtype=np.float64).tolist()]


def draw_line(ax: "Axes", label: str, rows: Sequence[Row], x: Callable[[Row], float]) -> None:
    i = len(ax.lines)
    ax.plot([x(row) for row in rows], [row["center"] for row in rows], color=COLORS[i], marker=MARKERS[i],
            markersize=4, linewidth=1.2, label=label)  # fmt: skip
