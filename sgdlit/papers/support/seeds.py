"""What several seeds say about a band: a mean with Student's interval, or each of them."""

from collections.abc import Sequence

import numpy as np

from sgdlit.foundations.intervals import t_interval
from sgdlit.papers.claim import Finding

LITERALLY = "none: asked of every seed"


def mean_within(
    claim: str, statement: str, values: Sequence[float] | np.ndarray, low: float, high: float, note: str = ""
) -> Finding:
    """Whether the mean over the seeds lies between ``low`` and ``high``; an end may be infinite.

    Args:
        claim: the id.
        statement: what was compared.
        values: one per seed, at least two.
        low: of the band.
        high: of the band.
        note: anything else that a reader should know.
    """
    own = np.asarray(values, dtype=np.float64)
    mean, (below, above) = float(own.mean()), t_interval(own)
    found = f"{mean:.3g}, seeds {own.min():.3g} to {own.max():.3g}"
    interval = f"95 %: [{below:.3g}, {above:.3g}], {len(own)} seeds"
    return Finding(claim, statement, band(low, high), found, low <= mean <= high, interval, note)


def every_within(
    claim: str, statement: str, values: Sequence[float] | np.ndarray, low: float, high: float, note: str = ""
) -> Finding:
    """Whether the value of every seed lies between ``low`` and ``high``; see :func:`mean_within`."""
    own = np.asarray(values, dtype=np.float64)
    inside = (own >= low) & (own <= high)
    found = f"{own.min():.3g} to {own.max():.3g}, {inside.sum()} of {own.size} inside"
    return Finding(
        claim, statement, f"{band(low, high)} in every seed", found, bool(inside.all()), LITERALLY, note
    )


def band(low: float, high: float) -> str:
    """A band in words."""
    if low == -np.inf:
        return f"at most {high:.4g}"
    return f"at least {low:.4g}" if high == np.inf else f"{low:.4g} to {high:.4g}"


def slope(x: Sequence[float], y: np.ndarray) -> np.ndarray:
    """Least-squares slopes of log y over log x.

    Args:
        x: k numbers above 0.
        y: float64 ``[..., k]``, above 0.

    Returns:
        float64 ``[...]``.
    """
    logs = np.log(np.asarray(x, dtype=np.float64))
    apart = logs - logs.mean()
    return np.log(y) @ apart / (apart @ apart)
