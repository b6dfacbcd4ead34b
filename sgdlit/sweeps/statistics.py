"""One number of several runs that differ only in their seed, with an interval and the rule in words.

A run that diverged, or did not reach what was asked for, has no value: it ranks behind all others and is
counted. So a mean over all runs exists only where every run has a value, while the mean of the best k, and a
median, may exist without some.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgdlit.foundations.intervals import bootstrap_interval, t_interval
from sgdlit.sweeps.quantities import Statistic


@dataclass(frozen=True)
class Summary:
    """What several runs say about one point.

    Args:
        center: mean or median; None where it does not exist.
        low: lower end of the interval; None without one.
        high: upper end.
        runs: how many runs there are.
        valued: how many of them have a value.
        rule: what ``center`` is, in words.
    """

    center: float | None
    low: float | None
    high: float | None
    runs: int
    valued: int
    rule: str


def summarise(
    values: Sequence[float | None], statistic: Statistic, higher_is_better: bool, without: str = "diverged"
) -> Summary:
    """Centre and interval of the values of some runs.

    Args:
        values: one per run, None for a run without a value.
        statistic: what to take of them.
        higher_is_better: which runs are the best.
        without: what a run without a value did, for the rule.
    """
    ranked = _ranked(values, higher_is_better)
    lost = sum(value is None for value in values)
    center = _finite(_center(ranked, statistic)) if len(values) else None
    low, high = (None, None) if center is None else _interval(ranked, statistic)
    rule = rule_of(statistic, len(values)) + (f", {lost} {without}" if lost else "")
    return Summary(center, low, high, len(values), len(values) - lost, rule)


def rule_of(statistic: Statistic, runs: int) -> str:
    """The statistic in words, such as "mean of the best 5 of 7"."""
    if statistic.best is not None:
        return f"{statistic.center} of the best {statistic.best} of {runs}"
    if statistic.paired:
        return f"{statistic.center} of {runs} differences" if runs > 1 else f"{runs or 'no'} difference"
    return f"{statistic.center} of {runs}" if runs > 1 else f"{runs or 'no'} run"


def interval_in_words(statistic: Statistic) -> str:
    """The interval in words, such as "95 % t-interval"; empty where there is none."""
    kind = statistic.kind_of_interval
    return (
        "" if kind == "none" else f"{100 * statistic.level:g} % {kind}{'-' if kind == 't' else ' '}interval"
    )


def _ranked(values: Sequence[float | None], higher_is_better: bool) -> np.ndarray:
    """Best first; runs without a value last, as the worst value that there is: float64 [n]."""
    worst = -np.inf if higher_is_better else np.inf
    ranked = np.sort(np.array([worst if value is None else value for value in values], dtype=np.float64))
    return ranked[::-1] if higher_is_better else ranked


def _center(ranked: np.ndarray, statistic: Statistic) -> np.ndarray:
    """Over the last axis, along which the best comes first."""
    if statistic.best is not None:
        if ranked.shape[-1] < statistic.best:
            return np.full(ranked.shape[:-1], np.nan)
        ranked = ranked[..., : statistic.best]
    return np.mean(ranked, -1) if statistic.center == "mean" else np.median(ranked, -1)


def _interval(ranked: np.ndarray, statistic: Statistic) -> tuple[float | None, float | None]:
    """Its ends; None for one that does not exist, as where many resamples have no finite statistic."""
    kind = statistic.kind_of_interval
    if kind == "none" or len(ranked) < 2:
        return None, None
    if kind == "t":
        return t_interval(ranked, statistic.level)
    low, high = bootstrap_interval(ranked, lambda resamples: _center(resamples, statistic), statistic.level)
    return _finite(low), _finite(high)


def _finite(value: float | np.ndarray) -> float | None:
    return float(value) if np.isfinite(value) else None


# The choice of a tuned value


@dataclass(frozen=True)
class Choice:
    """The best of several values of one key, and those beside it.

    Args:
        chosen: the value.
        center: what it reached.
        neighbours: the numbers just below and above that were tried, with what they reached (None where
            they reached nothing).
        at_edge: whether it is the lowest or highest value that was tried: a better one may lie beyond.
    """

    chosen: float
    center: float
    neighbours: tuple[tuple[float, float | None], ...]
    at_edge: bool


def choose(tried: dict[float, float | None], higher_is_better: bool) -> Choice | None:
    """The best of the values that were tried; None where none reached anything.

    Args:
        tried: centre by value; None where there is none, as where runs diverged.
        higher_is_better: which centres are the best.
    """
    reached = {value: center for value, center in tried.items() if center is not None}
    if not reached:
        return None
    chosen = (max if higher_is_better else min)(reached, key=reached.__getitem__)
    order = sorted(value for value in tried if isinstance(value, int | float) or value == chosen)
    place = order.index(chosen)
    beside = tuple((order[i], tried[order[i]]) for i in (place - 1, place + 1) if 0 <= i < len(order))
    return Choice(chosen, reached[chosen], beside, at_edge=len(order) > 1 and len(beside) < 2)
