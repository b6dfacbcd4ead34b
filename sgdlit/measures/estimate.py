"""A mean of independent draws, with its interval."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sgdlit.foundations.intervals import jackknifed_ratios, skewed_interval
from sgdlit.foundations.philox import derive_key, integers

_PAIRS = 100  # from which on the interval of a ratio holds it as often as it says


class Estimate(NamedTuple):
    """A mean, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def under(self, name: str) -> dict[str, float]:
        """As values ``name``, ``name_low``, ``name_high``."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def mean_of(draws: Tensor) -> Estimate:
    """The mean of independent draws ``[m]`` with the interval of :func:`skewed_interval`; an infinite one
    where m = 1, and one that holds less often than it says where m < 10 and the draws are skewed."""
    draws = draws.detach().double().cpu()
    if len(draws) < 2:
        return Estimate(float(draws.mean()), -math.inf, math.inf)
    return Estimate(float(draws.mean()), *skewed_interval(draws.numpy()))


def ratio_of_means(numerators: Tensor, denominators: Tensor) -> Estimate:
    """E a / E b, the ratio of the means of independent pairs, ``[m]`` each, b > 0: with the interval of the
    mean of its jackknife's values, see :func:`jackknifed_ratios`; an infinite one where m < 100, as single
    pairs may decide a ratio, and fewer would hold it less often than they say."""
    a, b = (values.detach().double().cpu() for values in (numerators, denominators))
    ratio = float(a.mean() / b.mean())
    if len(a) < _PAIRS:
        return Estimate(ratio, -math.inf, math.inf)
    return Estimate(ratio, *skewed_interval(jackknifed_ratios(a.numpy(), b.numpy())))


def signs(like: Tensor, seed: int, purpose: str, step: int, number: int) -> Tensor:
    """±1 with equal chances, of the shape ``[P]``, type and device of ``like``: a function of the rest."""
    drawn = integers(derive_key(seed, purpose), torch.tensor(step), len(like), 2, number)
    return (2 * drawn - 1).to(like)
