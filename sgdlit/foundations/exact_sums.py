"""Sums that come out the same to the last bit, however many examples are summed at once, by how many threads,
and on which device.

A library's sum or matrix product picks its order of additions by the shape of the whole tensor, so the label
of an example would depend on the page in which it was made. Two ways out: a fixed order of additions, for
single dot products; and numbers on a grid so coarse that every partial sum is exact, for matrix products.
"""

import torch
from torch import Tensor

GRID = 2.0**16  # grid points per unit


def pairwise_sum(x: Tensor) -> Tensor:
    """Sum over the last dimension by adding its halves until one number is left: shape ``x.shape[:-1]``."""
    while x.shape[-1] > 1:
        pairs, odd = divmod(x.shape[-1], 2)
        total = x[..., :pairs] + x[..., pairs : 2 * pairs]
        x = torch.cat((total, x[..., 2 * pairs :]), -1) if odd else total
    return x[..., 0]


def dot(x: Tensor, weights: Tensor) -> Tensor:
    """Dot products of the vectors x (..., d) with weights (d,), shape (...)."""
    return pairwise_sum(x * weights)


def grid_product(x: Tensor, weight: Tensor) -> Tensor:
    """x Wᵀ in float64 (n, k) of x (n, d) and W (k, d), both rounded to multiples of 2⁻¹⁶.

    Every product is a multiple of 2⁻³², so every sum below 2²¹ in absolute value is exact in float64.
    """
    return on_grid(x) @ on_grid(weight).T


def on_grid(x: Tensor) -> Tensor:
    """Rounded to multiples of 2⁻¹⁶, float64."""
    return (x.double() * GRID).round_().mul_(1 / GRID)  # a power of two: exact, and cheaper than a quotient
