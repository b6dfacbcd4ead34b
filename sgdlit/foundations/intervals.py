"""What independent values say about their mean, and how far from theory is too far."""

import math
from collections.abc import Callable

import numpy as np

from sgdlit.foundations.errors import UserError

Array = np.ndarray

_RESAMPLES = 9999
_SEED = 0  # of the bootstrap: the same values always give the same interval


def mean_and_error(values: Array) -> tuple[Array, Array]:
    """Means over the last axis, the runs, and their standard errors; float64 [...] each.

    The error is exactly 0 where all runs agree (a fixed start): sums of deviations from the first run round
    nothing there, while the deviations from a rounded mean would make an error of rounding's size.

    Raises:
        UserError: fewer than two runs.
    """
    runs = values.shape[-1]
    if runs < 2:
        raise UserError(f"runs = {runs}: at least 2 are needed for a standard error")
    first = values[..., :1]
    apart = values - first
    return first[..., 0] + apart.mean(-1), apart.std(-1, ddof=1) / np.sqrt(runs)


def t_interval(values: Array, level: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of independent normal values, float64 ``[n]`` with n ≥ 2."""
    n = len(values)
    half = _student_quantile(0.5 + level / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def skewed_interval(values: Array, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of independent values that may be skewed, float64 ``[n]`` with n ≥ 2.

    The ends are those of Student's interval, or, where they lie further out, those of Hall's: his cubic
    transformation T(t) = t + γt²/(3√n) + γ²t³/(27n) + γ/(6√n) takes the skewness out of Student's t. γ is the
    values' skewness, corrected for its own bias; it needs three values. Few values show less of a tail than
    there is, so a tail that they show moves an end outwards and none inwards.

    Quadratic forms of normal values have their mean in it in 92 to 98 % of draws from n = 10 on
    (``tests/long/test_coverage.py``); Student's has it in 85 % where the form has one direction and n = 10.

    Sources: Johnson, "Modified t tests and confidence intervals for asymmetrical populations", JASA 1978;
    Hall, "On the removal of skewness by transformation", JRSS B 1992.

    Args:
        values: float64 ``[n]``.
        level: coverage.
    """
    n, mean = len(values), float(np.mean(values))
    low, high = t_interval(values, level)
    deviation = float(np.std(values))
    if n < 3 or not deviation > 1e-12 * abs(mean):
        return low, high
    skewness = float(np.mean((values - mean) ** 3)) / deviation**3 * math.sqrt(n * (n - 1)) / (n - 2)
    shift, quantile = skewness / math.sqrt(n), _student_quantile(0.5 + level / 2, n - 1)
    error = deviation / math.sqrt(n - 1)
    ends = [mean - error * _without_skewness(t, shift) for t in (quantile, -quantile)]
    return min(low, ends[0]), max(high, ends[1])


def _without_skewness(t: float, shift: float) -> float:
    """Where T, see :func:`skewed_interval`, has the value t; with shift γ/√n."""
    bent = shift / 3
    return t if abs(bent) < 1e-8 else float(np.cbrt(1 + 3 * bent * (t - shift / 6)) - 1) / bent


def jackknifed_ratios(numerators: Array, denominators: Array) -> Array:
    """Values ``[n]`` whose mean is Σa/Σb up to 1/n², of n ≥ 2 independent pairs: n·R − (n − 1)·R without one.

    Sources: Quenouille, "Notes on bias in estimation", Biometrika 1956; Tukey 1958.

    Args:
        numerators: a, float64 ``[n]``.
        denominators: b > 0, ``[n]``.
    """
    n, a, b = len(numerators), numerators.sum(), denominators.sum()
    return n * a / b - (n - 1) * (a - numerators) / (b - denominators)


def bootstrap_interval(
    values: Array, statistic: Callable[[Array], Array], level: float = 0.95
) -> tuple[float, float]:
    """Percentiles of a statistic over resamples of some values; an end may be infinite or NaN.

    Source: Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979.

    Args:
        values: float64 ``[n]``.
        statistic: from ``[resamples, n]`` to ``[resamples]``; values keep their order in each resample.
        level: coverage.
    """
    n = len(values)
    chosen = np.sort(np.random.default_rng(_SEED).integers(0, n, (_RESAMPLES, n)), -1)
    found = np.sort(statistic(values[chosen]))  # NaN last
    tail = (1 - level) / 2
    low, high = np.quantile(found, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def jackknife_covariance(left_out: Array, sampled: float = 0.0) -> Array:
    """Covariance of k estimates from the values that they have without each of n examples: ``[k, k]``.

    (1 − f)·(n − 1)/n·Σ_i d_i d_iᵀ, with deviations d_i from the mean. Source: Efron & Stein, "The jackknife
    estimate of variance", Annals of Statistics 1981.

    Args:
        left_out: float64 ``[n, k]``.
        sampled: f, the part of a finite population that was drawn without replacement.
    """
    apart = left_out - left_out.mean(0)
    n = len(left_out)
    return (1 - sampled) * (n - 1) / n * (apart.T @ apart)


def fieller_interval(
    estimates: tuple[float, float], covariance: Array, degrees_of_freedom: int, level: float = 0.95
) -> tuple[float, float]:
    """Interval of a ratio a/b ≥ 0 of two normal estimates; its upper end is infinite where b may be 0.

    It holds those r for which a − r·b does not differ significantly from 0. Source: Fieller, "Some problems
    in interval estimation", JRSS B 1954.

    Args:
        estimates: a and b.
        covariance: of the estimates, ``[2, 2]``.
        degrees_of_freedom: of the covariance.
        level: coverage.
    """
    a, b = estimates
    (var_a, cov), (_, var_b) = _student_quantile(0.5 + level / 2, degrees_of_freedom) ** 2 * covariance
    # The ends solve square·r² − 2·middle·r + constant = 0.
    square, middle, constant = b**2 - var_b, a * b - cov, a**2 - var_a
    root = math.sqrt(max(b**2 * var_a - 2 * a * b * cov + a**2 * var_b + cov**2 - var_a * var_b, 0.0))
    if math.isnan(root + square + constant):
        return math.nan, math.nan
    if square > 0 and b > 0:
        return float(max((middle - root) / square, 0.0)), float(max((middle + root) / square, 0.0))
    if square >= 0 or constant <= 0:  # b is not positive, or a may be 0 too
        return 0.0, math.inf
    return float((middle - root) / square), math.inf


def distance_in_errors(mean: Array, error: Array, theory: Array) -> float:
    """The largest |mean − theory|/error; where the error is 0, infinite unless they agree to rounding."""
    mean, error, theory = (np.asarray(values, dtype=np.float64) for values in (mean, error, theory))
    exact, apart = error == 0, np.abs(mean - theory)
    if not np.allclose(mean[exact], theory[exact], rtol=1e-12, atol=0):
        return float("inf")
    return float((apart[~exact] / error[~exact]).max(initial=0.0))


def error_limit(runs: int, level: float = 4.0) -> float:
    """How many standard errors are as improbable as ``level`` of them would be, were the error known.

    Student's quantile: the error is itself an estimate from few runs.
    """
    from scipy.special import ndtr

    return -_student_quantile(float(ndtr(-level)), runs - 1)


def _student_quantile(probability: float, degrees_of_freedom: int) -> float:
    """The value below which Student's t lies with this probability."""
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    return float(stdtrit(degrees_of_freedom, probability))
