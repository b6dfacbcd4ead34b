"""Studies over seeds: the generator of each draw, and how what was found over seeds is written."""

from collections.abc import Sequence, Sized

import numpy as np

from sgdlit.foundations.intervals import t_interval

Array = np.ndarray


def generator(seed: int, *purpose: int) -> np.random.Generator:
    """The numbers of a seed for a purpose; no other seed or purpose shares any."""
    return np.random.default_rng(np.random.SeedSequence([seed, *purpose]))


def normal(seeds: int, purpose: int, *shape: int) -> Array:
    """Standard normal numbers of the seeds 0, 1, …, float64 ``[seeds, *shape]``."""
    return np.stack([generator(seed, purpose).standard_normal(shape) for seed in range(seeds)])


def mean_of(values: Array | Sequence[float]) -> str:
    """``0.998 in the mean``."""
    return f"{float(np.mean(values)):.4g} in the mean"


def range_of(values: Array | Sequence[float]) -> str:
    """``0.99 to 1.02``: the least and the largest."""
    return f"{float(np.min(values)):.3g} to {float(np.max(values)):.3g}"


def interval_of(values: Array | Sequence[float]) -> str:
    """Student's interval of the mean over seeds, in words."""
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all():
        return "none: not finite in every seed"
    low, high = t_interval(found)
    return f"mean over {len(found)} seeds, 95 %: {low:.4g} to {high:.4g}"


def all_seeds(values: Sized) -> str:
    """Why a statement about every seed has no interval."""
    return f"none: every one of {len(values)} seeds"
