"""Findings about what several seeds give: their mean or median in a band, every one of them, or most.

A band holds its ends; an end may be infinite. What is not a number lies in no band.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Sized

import numpy as np

from sgdlit.foundations.intervals import bootstrap_interval, t_interval
from sgdlit.papers.claim import Finding

Values = np.ndarray | Sequence[float]


# Findings


def in_the_mean(
    claim: str, statement: str, values: Values, low: float = -math.inf, high: float = math.inf, note: str = ""
) -> Finding:
    """Whether the mean over seeds lies in a band; with Student's interval.

    Args:
        claim: the id.
        statement: what was compared.
        values: one for each seed.
        low: of the band.
        high: of the band.
        note: anything else that a reader should know.
    """
    each = np.asarray(values, np.float64)
    mean = float(each.mean())
    found, statement = f"{mean:.4g}, seeds {range_of(each)}", f"{statement}, mean over seeds"
    holds = inside(mean, low, high)
    return Finding(claim, statement, band(low, high), found, holds, interval_of(each), note)


def in_the_median(
    claim: str, statement: str, values: Values, low: float = -math.inf, high: float = math.inf, note: str = ""
) -> Finding:
    """Whether the median over seeds lies in a band; with an interval by the bootstrap. See
    :func:`in_the_mean`."""
    each = np.asarray(values, np.float64)
    median = float(np.median(each))
    found, statement = f"{median:.4g}, seeds {range_of(each)}", f"{statement}, median over seeds"
    interval = _interval(
        each, "median", lambda own: bootstrap_interval(own, lambda drawn: np.median(drawn, -1))
    )
    return Finding(claim, statement, band(low, high), found, inside(median, low, high), interval, note)


def in_every_seed(
    claim: str, statement: str, values: Values, low: float = -math.inf, high: float = math.inf, note: str = ""
) -> Finding:
    """Whether the values of every seed lie in a band: one or several of each, of any shape. See
    :func:`in_the_mean`."""
    each = np.asarray(values, np.float64).ravel()
    agree = sum(inside(float(value), low, high) for value in each)
    found = f"{range_of(each)}, {agree} of {len(each)} inside"
    predicted = f"{band(low, high)} in every seed"
    return Finding(claim, statement, predicted, found, agree == len(each), all_seeds(each), note)


def in_most_seeds(
    claim: str, statement: str, holds: Sequence[bool] | np.ndarray, least: int, note: str = ""
) -> Finding:
    """Whether a statement holds in at least so many of the seeds.

    Args:
        claim: the id.
        statement: what was asked of each seed.
        holds: the answer of each.
        least: how many are to agree.
        note: anything else that a reader should know.
    """
    agree, of = int(np.sum(holds)), len(holds)
    interval = "none: a count of seeds"
    predicted = f"at least {least} of {of} seeds"
    return Finding(claim, statement, predicted, f"{agree} of {of}", agree >= least, interval, note)


# Bands, and what was found, in words


def inside(value: float, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether a number lies in a band."""
    return low <= value <= high


def band(low: float = -math.inf, high: float = math.inf) -> str:
    """``0.9 to 1.1``, ``at least 0.9`` or ``at most 1.1``."""
    if low == -math.inf:
        return f"at most {high:g}"
    return f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"


def mean_of(values: Values) -> str:
    """``0.998 in the mean``."""
    return f"{float(np.mean(values)):.4g} in the mean"


def range_of(values: Values) -> str:
    """``0.99 to 1.02``: the least and the largest."""
    return f"{float(np.min(values)):.3g} to {float(np.max(values)):.3g}"


def interval_of(values: Values) -> str:
    """Student's interval of the mean over seeds, in words."""
    return _interval(np.asarray(values, np.float64), "mean", t_interval)


def all_seeds(values: Sized) -> str:
    """Why a statement about every one of some values has no interval."""
    return f"none: each of {len(values)} is judged by itself"


def _interval(each: np.ndarray, of: str, ends: Callable[[np.ndarray], tuple[float, float]]) -> str:
    if len(each) < 2:
        return "none: one seed"
    if not np.isfinite(each).all():
        return "none: not finite in every seed"
    low, high = ends(each)
    return f"{of} over {len(each)} seeds, 95 %: {low:.4g} to {high:.4g}"
