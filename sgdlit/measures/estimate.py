"""A mean of independent draws, with its interval."""

from typing import NamedTuple

import torch
from torch import Tensor

from sgdlit.foundations.intervals import t_interval
from sgdlit.foundations.philox import derive_key, integers


class Estimate(NamedTuple):
    """A mean, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def under(self, name: str) -> dict[str, float]:
        """As values ``name``, ``name_low``, ``name_high``."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def mean_of(draws: Tensor) -> Estimate:
    """The mean of independent draws ``[m]``, with Student's interval; an infinite one where m = 1."""
    draws = draws.detach().double().cpu()
    if len(draws) < 2:
        return Estimate(float(draws.mean()), float("-inf"), float("inf"))
    return Estimate(float(draws.mean()), *t_interval(draws.numpy()))


def ratio_of_means(numerators: Tensor, denominators: Tensor) -> Estimate:
    """E a / E b from independent pairs, ``[m]`` each: with the interval of its linearisation, the mean of
    R + (a − R·b)/b̄ with R = ā/b̄ (Cochran 1977, Sampling techniques, section 6.4)."""
    a, b = numerators.detach().double(), denominators.detach().double()
    ratio = a.mean() / b.mean()
    return mean_of(ratio + (a - ratio * b) / b.mean())


def signs(like: Tensor, seed: int, purpose: str, step: int, number: int) -> Tensor:
    """±1 with equal chances, of the shape ``[P]``, type and device of ``like``: a function of the rest."""
    drawn = integers(derive_key(seed, purpose), torch.tensor(step), len(like), 2, number)
    return (2 * drawn - 1).to(like)
