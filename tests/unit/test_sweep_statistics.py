"""Best k of n, means, medians and intervals, against scipy.stats and by enumeration; the choice of tuning."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sgdlit.sweeps.quantities import Statistic
from sgdlit.sweeps.statistics import choose, interval_in_words, summarise

FEW = settings(max_examples=60, deadline=None)
VALUES = st.lists(st.floats(-5, 5), min_size=1, max_size=7)
NO_INTERVAL = "none"


@given(VALUES, st.integers(1, 7), st.booleans())
@FEW
def test_the_mean_of_the_best_k_is_the_best_mean_of_any_k(values, k, higher):
    found = summarise(values, Statistic(best=k, interval=NO_INTERVAL), higher)
    if k > len(values):
        assert found.center is None
        return
    means = [np.mean(subset) for subset in itertools.combinations(values, k)]
    assert found.center == pytest.approx(max(means) if higher else min(means))
    assert (found.low, found.high) == (None, None)


@given(VALUES)
@FEW
def test_mean_and_median_are_numpys(values):
    assert summarise(values, Statistic(interval="none"), False).center == pytest.approx(np.mean(values))
    found = summarise(values, Statistic("median", interval="none"), True)
    assert found.center == pytest.approx(np.median(values))


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_the_t_interval_is_scipys(level):
    values = np.random.default_rng(1).normal(3, 2, 7)
    found = summarise(list(values), Statistic(level=level), False)
    expected = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)


CENTERS = {
    "mean": (Statistic(interval="bootstrap"), np.mean),
    "median": (Statistic("median"), np.median),
    "best 5": (Statistic(best=5), lambda x, axis: np.sort(x, axis)[..., :5].mean(axis)),
}


@pytest.mark.parametrize("name", CENTERS)
def test_the_bootstrap_interval_is_scipys(name):
    statistic, function = CENTERS[name]
    values = np.random.default_rng(2).normal(0, 1, 7)
    found = summarise(list(values), statistic, False)
    expected = stats.bootstrap(
        (values,), function, n_resamples=40000, confidence_level=0.95, method="percentile", rng=3
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.04)
    assert summarise(list(values), statistic, False) == found  # the same runs, the same interval


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    rng, covered = np.random.default_rng(4), 0
    for _ in range(400):
        found = summarise(list(rng.normal(1, 1, 5)), Statistic(level=0.8), False)
        covered += found.low <= 1 <= found.high
    assert covered / 400 == pytest.approx(0.8, abs=0.05)  # 2.5 standard errors


def test_a_run_without_a_value_ranks_last_and_is_counted():
    values = [0.1, None, 0.3, 0.2, None]
    best = summarise(values, Statistic(best=3, interval="none"), higher_is_better=False)
    assert (best.center, best.runs, best.valued) == (pytest.approx(0.2), 5, 3)
    assert best.rule == "mean of the best 3 of 5, 2 diverged"
    assert summarise(values, Statistic(best=4), False).center is None
    assert summarise(values, Statistic(), False).center is None
    assert summarise(values, Statistic(), False, "not reached").rule == "mean of 5, 2 not reached"
    for higher, middle in ((False, 0.3), (True, 0.1)):
        median = summarise(values, Statistic("median"), higher)
        assert median.center == middle
        assert (median.low, median.high)[not higher] is None, "half of the resamples may have no median"
    assert summarise([None], Statistic(), False).center is None
    nothing = summarise([], Statistic(), False)
    assert (nothing.center, nothing.rule) == (None, "no run")


def test_one_run_has_no_interval():
    found = summarise([2.0], Statistic(), False)
    assert (found.center, found.low, found.high, found.rule) == (2.0, None, None, "1 run")


def test_the_interval_in_words():
    assert interval_in_words(Statistic()) == "95 % t-interval"
    assert interval_in_words(Statistic(best=5, level=0.9)) == "90 % bootstrap interval"
    assert interval_in_words(Statistic(interval="none")) == ""


def test_a_choice_shows_its_neighbours_and_whether_it_lies_at_the_edge():
    tried = {0.25: 0.3, 0.5: 0.1, 1.0: None, 0.125: 0.4}
    found = choose(tried, higher_is_better=False)
    assert (found.chosen, found.center, found.at_edge) == (0.5, 0.1, False)
    assert found.neighbours == ((0.25, 0.3), (1.0, None))  # it diverges above: no edge
    highest = choose(tried, higher_is_better=True)
    assert (highest.chosen, highest.at_edge, highest.neighbours) == (0.125, True, ((0.25, 0.3),))
    assert not choose({0.5: 1.0}, True).at_edge
    assert choose({0.5: None}, True) is None
    named = choose({"SGD": 0.5, "Adam": 0.1}, False)
    assert (named.chosen, named.neighbours, named.at_edge) == ("Adam", (), False)
