"""Findings about one number of each seed: what holds in every seed, in most, and in the mean or median."""

import math
from collections.abc import Sequence

import numpy as np

from sgdlit.foundations.intervals import bootstrap_interval, t_interval
from sgdlit.papers.claim import Finding

Values = Sequence[float] | np.ndarray

_COUNTED = "none: every seed is compared by itself"


def in_every_seed(
    claim: str,
    statement: str,
    values: Values,
    low: float = -math.inf,
    high: float = math.inf,
    note: str = "",
) -> Finding:
    """Whether the number of every seed lies above ``low`` and below ``high``."""
    return in_most_seeds(claim, statement, values, len(values), low, high, note)


def in_most_seeds(
    claim: str,
    statement: str,
    values: Values,
    at_least: int,
    low: float = -math.inf,
    high: float = math.inf,
    note: str = "",
) -> Finding:
    """Whether the numbers of at least so many seeds lie above ``low`` and below ``high``."""
    found = np.asarray(values, dtype=np.float64)
    inside = int(((found > low) & (found < high)).sum())
    wanted = "every seed" if at_least == len(found) else f"at least {at_least} of {len(found)} seeds"
    shown = f"{found.min():.3g} to {found.max():.3g}, inside in {inside} of {len(found)}"
    predicted = f"{_band(low, high)} in {wanted}"
    return Finding(claim, statement, predicted, shown, inside >= at_least, _COUNTED, note)


def in_the_mean(
    claim: str,
    statement: str,
    values: Values,
    low: float = -math.inf,
    high: float = math.inf,
    note: str = "",
) -> Finding:
    """Whether the mean over seeds lies in a band; with Student's interval."""
    found = np.asarray(values, dtype=np.float64)
    mean, (below, above) = float(found.mean()), t_interval(found)
    interval = f"{below:.3g} to {above:.3g} (95 %, {len(found)} seeds)"
    statement, predicted = f"{statement}, mean over seeds", _band(low, high)
    return Finding(claim, statement, predicted, f"{mean:.3g}", low < mean < high, interval, note)


def in_the_median(
    claim: str,
    statement: str,
    values: Values,
    low: float = -math.inf,
    high: float = math.inf,
    note: str = "",
) -> Finding:
    """Whether the median over seeds lies in a band; with an interval by the bootstrap."""
    found = np.asarray(values, dtype=np.float64)
    median = float(np.median(found))
    below, above = bootstrap_interval(found, lambda drawn: np.median(drawn, -1))
    interval = f"{below:.3g} to {above:.3g} (95 %, bootstrap over {len(found)} seeds)"
    statement, predicted = f"{statement}, median over seeds", _band(low, high)
    return Finding(claim, statement, predicted, f"{median:.3g}", low < median < high, interval, note)


def _band(low: float, high: float) -> str:
    if math.isinf(low):
        return f"< {high:.3g}"
    return f"> {low:.3g}" if math.isinf(high) else f"{low:.3g} to {high:.3g}"
