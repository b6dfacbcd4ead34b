"""Findings over seeds: where they hold, against values counted by hand, and their intervals against scipy."""

import numpy as np
import pytest
from scipy import stats

from sgdlit.papers.support.seed_findings import (
    band,
    in_every_seed,
    in_most_seeds,
    in_the_mean,
    in_the_median,
    inside,
    interval_of,
    range_of,
)


def test_findings_hold_inside_their_band_alone():
    assert in_the_mean("X", "value", [0.9, 1.0, 1.4], 1.0, 1.2).holds
    assert not in_the_mean("X", "value", [0.9, 1.0, 1.4], 1.15, 1.2).holds
    assert in_the_median("X", "value", [0.0, 1.0, 9.0], 0.9, 1.1).holds
    assert not in_the_median("X", "value", [0.0, 1.0, 9.0], low=1.1).holds
    assert in_every_seed("X", "value", [[0.5, 1.0], [1.0, 1.2]], 0.5, 1.5).holds
    assert not in_every_seed("X", "value", [0.5, 1.6], high=1.5).holds
    assert not in_every_seed("X", "value", [0.5, 1.6], low=0.6).holds
    assert in_most_seeds("X", "value", [True, True, False], 2).holds
    assert not in_most_seeds("X", "value", [True, True, False], 3).holds


@pytest.mark.parametrize("finding", [in_the_mean, in_the_median, in_every_seed])
def test_a_band_holds_its_ends_and_what_is_not_a_number_lies_in_none(finding):
    assert finding("X", "value", [1.0, 1.0], 1.0, 2.0).holds
    assert finding("X", "value", [2.0, 2.0], 1.0, 2.0).holds
    assert not finding("X", "value", [1.0, np.nan]).holds
    assert inside(np.inf)
    assert not inside(np.nan)


def test_what_is_told_about_seeds():
    every = in_every_seed("X", "value", [1.0, 2.1], 1.0, 2.0)
    assert (every.predicted, every.found) == ("1 to 2 in every seed", "1 to 2.1, 1 of 2 inside")
    most = in_most_seeds("X", "value", [True, False], 1)
    assert (most.predicted, most.found) == ("at least 1 of 2 seeds", "1 of 2")
    assert in_the_mean("X", "value", [1.0, 2.0], low=1).found == "1.5, seeds 1 to 2"
    assert [band(1, 2), band(low=0.5), band(high=1e-3)] == ["1 to 2", "at least 0.5", "at most 0.001"]
    assert range_of([3.0, 1.0, 2.0]) == "1 to 3"


def test_intervals():
    """The mean's by ``stats.t``; the median's lies between order statistics, and holds the median."""
    each = np.random.default_rng(0).exponential(size=10)
    low, high = stats.t.interval(0.95, 9, each.mean(), stats.sem(each))
    assert interval_of(each) == f"mean over 10 seeds, 95 %: {low:.4g} to {high:.4g}"
    assert in_the_mean("X", "value", each).interval == interval_of(each)
    told = in_the_median("X", "value", each).interval
    assert told.startswith("median over 10 seeds, 95 %: ")
    low, high = map(float, told.rpartition(": ")[2].split(" to "))
    assert each.min() <= low < np.median(each) < high <= each.max()
    assert interval_of([1.0]) == "none: one seed"
    assert interval_of([1.0, np.inf]) == "none: not finite in every seed"
