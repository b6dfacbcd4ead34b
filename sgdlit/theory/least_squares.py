"""Least squares without a prior on the rank: the baseline of matrix sensing (claim B2).

From n < d² rank-one measurements y_i = a_iᵀTb_i, the matrix M of smallest Frobenius norm that agrees with all
of them is the projection of T on the span of the a_i b_iᵀ. Where the a_i and b_i have no preferred direction,
that span takes in each matrix alike, so that, for every T::

    E ‖M − T‖²_F / ‖T‖²_F = 1 − n/d²

At n = d²/2 the squared ratio is ½ and the ratio itself √½ = 0.707. (The published text gives 0.5 for the
ratio; that is its square.)
"""

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key, normal


class Solution(NamedTuple):
    """The matrix found (d, d), the iterations it took, and ‖y − y(M)‖/‖y‖."""

    matrix: Tensor
    iterations: int
    residual: float


def expected_error(samples: int, d: int) -> float:
    """√(E ‖M − T‖²/‖T‖²) = √(1 − n/d²) for n = ``samples`` up to d²; 0 beyond."""
    return sqrt(max(0.0, 1 - samples / d**2))


def minimum_norm(
    a: Tensor, b: Tensor, y: Tensor, tolerance: float = 1e-6, max_iterations: int = 2000
) -> Solution:
    """The M of smallest Frobenius norm with a_iᵀMb_i = y_i for all i, by conjugate gradients.

    M = Σ_i z_i a_i b_iᵀ where z solves the normal equations 𝒜𝒜ᵀz = y, (𝒜M)_i = a_iᵀMb_i. Nothing of size
    n × d² or n × n is formed: an iteration costs two products of (n, d) with (d, d), 4nd² operations.

    Args:
        a: (n, d).
        b: (n, d).
        y: (n,).
        tolerance: on the residual ‖y − 𝒜M‖ relative to ‖y‖.
        max_iterations: of conjugate gradients.

    Raises:
        UserError: shapes that do not fit; the tolerance is not reached, which is so for measurements that
            contradict each other, as with n > d² and noise.
    """
    if a.shape != b.shape or a.dim() != 2 or y.shape != a.shape[:1]:
        raise UserError(
            f"least squares: a, b, y of shapes {tuple(a.shape)}, {tuple(b.shape)}, {tuple(y.shape)}; "
            "allowed: (n, d), (n, d), (n,)"
        )
    z, residual, scale = torch.zeros_like(y), y.clone(), float(y.norm())
    direction, squared = residual.clone(), float(residual.square().sum())
    for iteration in range(max_iterations + 1):
        if squared**0.5 <= tolerance * scale:
            return Solution(_combine(a, b, z), iteration, squared**0.5 / scale if scale else 0.0)
        image = _measure(a, b, _combine(a, b, direction))
        step = squared / float(direction @ image)
        z += step * direction
        residual -= step * image
        previous, squared = squared, float(residual.square().sum())
        direction = residual + squared / previous * direction
    raise UserError(
        f"least squares: relative residual {squared**0.5 / scale:.2g} after {max_iterations} iterations, not "
        f"the tolerance {tolerance:g}; allowed: consistent measurements, more iterations, a larger tolerance"
    )


def minimum_norm_error(samples: int, d: int, r: int, seed: int, draw: int, tolerance: float) -> float:
    """‖M − T‖²/‖T‖² of one draw of a T of rank ``r`` and of ``samples`` measurements of it."""
    key = derive_key(seed, f"theory/least-squares-{draw}")
    factors = normal(key, torch.arange(2 * r), d, substream=0, dtype=torch.float64)
    target = factors[:r].T @ factors[r:]
    a, b = normal(key, torch.arange(samples), 2 * d, substream=1, dtype=torch.float64).split(d, 1)
    found = minimum_norm(a.contiguous(), b.contiguous(), ((a @ target) * b).sum(1), tolerance)
    return float((found.matrix - target).square().sum() / target.square().sum())


def _combine(a: Tensor, b: Tensor, z: Tensor) -> Tensor:
    """𝒜ᵀz = Σ_i z_i a_i b_iᵀ."""
    return a.T @ (z.unsqueeze(1) * b)


def _measure(a: Tensor, b: Tensor, matrix: Tensor) -> Tensor:
    """𝒜M: the numbers a_iᵀMb_i."""
    return ((a @ matrix) * b).sum(1)
