"""Exponents of power laws: least squares on logarithms for each seed by itself, then mean and interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import t_interval

Array = np.ndarray


@dataclass(frozen=True)
class Slopes:
    """The exponents that some seeds found.

    Attributes:
        each: of every seed, float64 ``[S]``.
        mean: over seeds.
        std: over seeds, with divisor S − 1; 0 for one seed.
        interval: Student's 95 % interval of the mean; None for one seed.
    """

    each: Array
    mean: float
    std: float
    interval: tuple[float, float] | None


def log_slope(x: Array, y: Array) -> Array:
    """The slope b of log y = a + b·log x by least squares.

    Args:
        x: positive, ``[n]``, n ≥ 2, not all equal.
        y: positive, ``[..., n]``.

    Returns:
        float64 ``[...]``, a slope for each row.

    Raises:
        UserError: fewer than two points, or numbers that have no logarithm.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or len(x) < 2 or y.shape[-1:] != x.shape:
        raise UserError(f"points: x {x.shape} and y {y.shape}; allowed: x [n] and y [..., n] with n ≥ 2")
    if not ((x > 0).all() and (y > 0).all() and np.isfinite(y).all() and np.isfinite(x).all()):
        raise UserError("points: a power law is sought through numbers that are not all positive and finite")
    apart = np.log(x) - np.log(x).mean()
    return np.log(y) @ apart / (apart @ apart)


def log_slopes(x: Array, y: Array) -> Slopes:
    """The slope of each seed, their mean, spread and interval.

    Args:
        x: positive, ``[n]``, the same for all seeds.
        y: positive, ``[S, n]``.

    Raises:
        UserError: as :func:`log_slope`; ``y`` without seeds.
    """
    y = np.asarray(y, np.float64)
    if y.ndim != 2 or not len(y):
        raise UserError(f"points: y {y.shape}; allowed: [seeds, n]")
    each = log_slope(x, y)
    several = len(each) > 1
    return Slopes(
        each,
        float(each.mean()),
        float(each.std(ddof=1)) if several else 0.0,
        t_interval(each) if several else None,
    )
