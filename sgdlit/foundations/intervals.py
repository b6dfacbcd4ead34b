"""What independent runs say about a mean, and how far from theory is too far."""

import numpy as np

from sgdlit.foundations.errors import UserError

Array = np.ndarray


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
    from scipy import stats

    return float(stats.t.isf(stats.norm.sf(level), runs - 1))
