"""Momentum on stochastic least squares: the two-dimensional discrete instance of Kidambi et al. 2018 (G15).

An input is σ₁z·e₁ or σ₂z·e₂ with probability ½ each, with E z² = 2 and E z⁴ = 2c (arXiv 1803.05591, section
3), so that E aaᵀ = diag(σ₁², σ₂²); labels are clean, batch size 1. Each coordinate is a linear recursion
whose matrix J = J₀ + kJ₁ is random through the curvature k = z²σ² or 0, with E k = σ² and E k² = cσ⁴. The
second moments of the state follow E[J⊗J], which depends on those two moments only, so its spectral radius
is the exact rate of E‖w‖². The worse coordinate decides. At c = 2, its least value, z² is constant and
Nesterov's momentum does help; the claim is for larger c (here 5 by default).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sgdlit.foundations.errors import UserError

Array = np.ndarray
Step = Callable[[float], Array]
"""The update's matrix on the state of one coordinate, affine in the curvature that the drawn input has."""

_ACC_CONSTANT = 0.7


@dataclass(frozen=True)
class Discrete:
    """σ₁² = 1 and σ₂² = 1/condition; ``spread`` is c >= 2, E z⁴ = 2c (2 for a constant z²)."""

    condition: float
    spread: float = 5.0

    def __post_init__(self) -> None:
        if self.condition < 1 or self.spread < 2:
            raise UserError(
                f"condition = {self.condition}, spread = {self.spread}: must be at least 1 and at least 2"
            )

    def rate(self, step: Step) -> float:
        """The factor per step of E‖state‖² in the worse coordinate; above 1 it diverges."""
        plain, slope = step(0.0), step(1.0) - step(0.0)
        radii = []
        for curvature in (1.0, 1 / self.condition):
            cross = np.kron(plain, slope) + np.kron(slope, plain)
            moment = self.spread * curvature**2 * np.kron(slope, slope)
            second = np.kron(plain, plain) + curvature * cross + moment
            radii.append(float(np.abs(np.linalg.eigvals(second)).max()))
        return max(radii)


def sgd_step(lr: float) -> Step:
    """w ← w − lr·g."""
    step = _of_sgd(lr)
    return lambda c: step(c)[:1, :1]


def heavy_ball_step(lr: float, momentum: float) -> Step:
    """State (w, b) of SGD with momentum."""
    return _of_sgd(lr, momentum)


def nesterov_step(lr: float, momentum: float) -> Step:
    """State (w, b) of SGD with Nesterov's momentum."""
    return _of_sgd(lr, momentum, nesterov=True)


def _of_sgd(lr: float, momentum: float = 0.0, nesterov: bool = False) -> Step:
    from sgdlit.algorithms.rules.sgd import linear_map  # imports torch

    return lambda c: linear_map(c, lr, momentum, nesterov)[0]


def accelerated_step(lr: float, long_step: float, advantage: float) -> Step:
    """State (w, w̄) of AccSGD with lr δ, long step κ, statistical advantage ξ, and c = 0.7::

    β = ξc²/κ;  w̄ ← β((1/β − 1) w̄ − (δκ/c) g + w);  w ← c/(c + β)(w − δg) + β/(c + β) w̄
    """
    beta = advantage * _ACC_CONSTANT**2 / long_step

    def matrix(c: float) -> Array:
        average = np.array([beta * (1 - lr * long_step / _ACC_CONSTANT * c), 1 - beta])
        moved = np.array([1 - lr * c, 0.0])
        share = _ACC_CONSTANT / (_ACC_CONSTANT + beta)
        return np.stack([share * moved + (1 - share) * average, average])

    return matrix


def best_sgd(problem: Discrete) -> float:
    """The least rate of SGD over a fine grid of learning rates."""
    return min(problem.rate(sgd_step(lr)) for lr in np.geomspace(1e-2, 1, 200))


def best_momentum(problem: Discrete, step: Callable[[float, float], Step]) -> float:
    """The least rate of heavy ball or Nesterov over a grid of learning rates and of 1 − β."""
    lrs = np.geomspace(1e-3, 4, 60)
    momenta = [0.0, *(1 - np.geomspace(1, 0.5 / problem.condition, 40)[1:])]
    return min(problem.rate(step(lr, beta)) for lr in lrs for beta in momenta)


def best_accelerated(problem: Discrete) -> float:
    """The least rate of AccSGD over a grid of δ, κ and ξ."""
    grid = [
        (lr, long_step, advantage)
        for lr in np.geomspace(0.05, 1, 10)
        for long_step in np.geomspace(1, 4 * problem.condition, 24)
        for advantage in np.geomspace(0.5, 2 * np.sqrt(problem.condition), 16)
        if advantage * _ACC_CONSTANT**2 <= long_step
    ]
    return min(problem.rate(accelerated_step(*point)) for point in grid)
