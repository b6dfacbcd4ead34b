"""Files that are whole or as they were, tables there and back, and intervals against scipy."""

import numpy as np
import pytest
from scipy import stats

from sgdlit.foundations.files import read_table, write_atomically, write_table
from sgdlit.foundations.intervals import (
    bootstrap_interval,
    error_limit,
    jackknifed_ratios,
    skewed_interval,
    t_interval,
)


def test_a_table_there_and_back(tmp_path):
    rows = [{"a": 1, "b": 0.1 + 0.2}, {"a": None, "c": 'x, "y"\nλ'}]
    path = write_table(tmp_path / "table.csv", rows)
    assert path.read_bytes().startswith(b"a,b,c\n1,0.30000000000000004,\n")
    assert read_table(path) == [
        {"a": "1", "b": "0.30000000000000004", "c": ""},
        {"a": "", "b": "", "c": 'x, "y"\nλ'},
    ]
    assert read_table(write_table(path, rows, ["b", "d"]))[0] == {"b": "0.30000000000000004", "d": ""}
    assert read_table(write_table(path, [], ["step"])) == []
    path.write_text("a,b\n1\n")  # cut off
    assert read_table(path) == [{"a": "1", "b": ""}]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    write_atomically(tmp_path / "file", "before")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "file", 1)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "before"}


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_students_interval_and_limit_are_scipys(level):
    values = np.random.default_rng(1).normal(3, 2, 7)
    expected = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
    assert t_interval(values, level) == pytest.approx(expected, rel=1e-12)
    assert error_limit(8, 3.0) == stats.t.isf(stats.norm.sf(3.0), 7)


def test_the_interval_of_skewed_values_solves_halls_equation():
    """Its upper end m solves T((mean − m)/error) = −quantile, with T of Hall 1992; the lower one is
    Student's, as the tail is above. Mirrored values have the mirrored interval."""
    values = np.random.default_rng(3).exponential(2, 12)
    n, skewness = 12, stats.skew(values, bias=False)
    low, high = skewed_interval(values)
    t = (values.mean() - high) / stats.sem(values)
    hall = t + skewness * t**2 / (3 * n**0.5) + skewness**2 * t**3 / (27 * n) + skewness / (6 * n**0.5)
    assert hall == pytest.approx(-stats.t.ppf(0.975, n - 1), rel=1e-10)
    assert low == t_interval(values)[0]
    assert high > t_interval(values)[1]
    assert skewed_interval(-values) == pytest.approx((-high, -low), rel=1e-12)


@pytest.mark.parametrize("values", [[1.0, 2.0], [2.0, 2.0, 2.0], [1.0, 2.0, 3.0], [1e9, 1e9 + 1e-7, 1e9]])
def test_two_values_equal_ones_and_a_symmetric_three_have_students_interval(values):
    assert skewed_interval(np.array(values)) == pytest.approx(t_interval(np.array(values)), rel=1e-12)


def test_the_jackknife_of_a_ratio_is_that_of_leaving_out():
    a, b = np.random.default_rng(4).exponential(1, (2, 5))
    found = jackknifed_ratios(a, b)
    for i in range(5):
        left = np.delete(a, i).sum() / np.delete(b, i).sum()
        assert found[i] == pytest.approx(5 * a.sum() / b.sum() - 4 * left, rel=1e-12)


@pytest.mark.parametrize("statistic", [np.mean, np.median, lambda x, axis: x[..., :5].mean(axis)])
def test_the_bootstrap_interval_is_scipys(statistic):
    """Also of a statistic that asks for the order of the values, which resamples keep."""
    values = np.sort(np.random.default_rng(2).normal(0, 1, 7))
    found = bootstrap_interval(values, lambda x: statistic(x, axis=-1))
    expected = stats.bootstrap(
        (values,),
        lambda x, axis: statistic(np.sort(x, axis), axis=axis),
        n_resamples=40000,
        method="percentile",
        rng=3,
    ).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.04)
    assert bootstrap_interval(values, lambda x: statistic(x, axis=-1)) == found
