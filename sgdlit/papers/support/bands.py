"""Findings about numbers that seeds give: their mean in a band, each of them in a band, or a share of
them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sgdlit.foundations.intervals import t_interval
from sgdlit.papers.claim import Finding

Values = np.ndarray | Sequence[float]


def band(low: float | None = None, high: float | None = None) -> str:
    """How a reader sees it: ``0.9 to 1.1``, ``> 0.9`` or ``< 1.1``."""
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"> {low:g}" if low is not None else f"< {high:g}"


def inside(value: float, low: float | None, high: float | None) -> bool:
    """Whether a number lies in a band; NaN lies in none."""
    return not math.isnan(value) and (low is None or value >= low) and (high is None or value <= high)


def in_mean(
    claim: str, statement: str, values: Values, low: float | None = None, high: float | None = None,
    note: str = "",
) -> Finding:  # fmt: skip
    """The mean over seeds lies in the band; with Student's 95 % interval. ``values`` are one for each
    seed."""
    each = np.asarray(values, np.float64)
    mean = float(each.mean())
    if len(each) > 1 and np.isfinite(each).all():
        ends = t_interval(each)
        interval = f"95 % over {len(each)} seeds: {ends[0]:.4g} to {ends[1]:.4g}"
    else:
        interval = "none: one seed" if len(each) == 1 else "none: not all seeds are finite"
    statement = f"{statement}, mean of {len(each)} seeds"
    return Finding(claim, statement, band(low, high), f"{mean:.4g}", inside(mean, low, high), interval, note)


def in_median(
    claim: str, statement: str, values: Values, low: float | None = None, high: float | None = None,
    note: str = "",
) -> Finding:  # fmt: skip
    """The median over seeds lies in the band."""
    each = np.asarray(values, np.float64)
    median = float(np.median(each))
    interval = f"none: a median; {len(each)} seeds lie in {each.min():.4g} to {each.max():.4g}"
    statement = f"{statement}, median of {len(each)} seeds"
    holds = inside(median, low, high)
    return Finding(claim, statement, band(low, high), f"{median:.4g}", holds, interval, note)


def in_every(
    claim: str, statement: str, values: Values, low: float | None = None, high: float | None = None,
    note: str = "",
) -> Finding:  # fmt: skip
    """Each value lies in the band; ``values`` are one or several for each seed, of any shape."""
    each = np.asarray(values, np.float64).ravel()
    holds = all(inside(float(value), low, high) for value in each)
    found = f"{each.min():.4g} to {each.max():.4g}"
    interval = f"none: the range of {len(each)} values, each of which is judged"
    return Finding(claim, f"{statement}, each", band(low, high), found, holds, interval, note)


def in_most(
    claim: str, statement: str, holds: Sequence[bool] | np.ndarray, least: int, note: str = ""
) -> Finding:
    """At least so many of the seeds agree."""
    agree = int(np.sum(holds))
    of = len(holds)
    interval = "none: a count of seeds"
    return Finding(claim, statement, f"≥ {least} of {of}", f"{agree} of {of}", agree >= least, interval, note)
