"""What an optimizer does to one direction of a noisy quadratic: its response to the start and to the noise.

In a direction of curvature h, with x = αh (α the learning rate), the parameter after k steps is
``mean(k) · θ_0 + α · (weighted sum of the k noises)``, so that with noise of variance c/B::

    E θ_k² = mean(k)² E θ_0² + (α² c / B) · energy(k)

Each optimizer gives ``mean`` and ``energy`` in closed form (formulas F5 to F9 of Zhang et al. 2019,
arXiv 1907.04164, and of Grosse's CSC 2541 lecture 7), for arrays of x and one k.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.theory.two_roots import Array, ComplexRoots, RealRoots


class Response(Protocol):
    """The response in every direction at one learning rate."""

    def mean(self, k: int) -> Array:
        """The factor on θ_0 after k steps."""

    def energy(self, k: int) -> Array:
        """Σ of the squared weights of the k noises; never falls with k."""

    def limit(self) -> Array:
        """``energy`` for k → ∞."""

    def least_square(self, a: int, b: int, at_a: Array, at_b: Array) -> Array:
        """A lower bound of mean(k)² for all a <= k <= b, given mean(a) and mean(b)."""


class Optimizer(Protocol):
    """SGD, HeavyBall or AveragedSGD."""

    @property
    def preconditioner(self) -> float:
        """γ of H^γ; 0 for none."""

    def stable_below(self) -> float:
        """αh must stay below this."""

    def steady_below(self) -> float:
        """Where αh is at most this, every mean(k) is >= 0 and falls as αh grows."""

    def response(self, x: Array) -> Response:
        """The response where αh = x, 0 < x < stable_below()."""


@dataclass(frozen=True)
class SGD:
    """θ ← θ − α H^{−γ} g (F5–F7), γ = ``preconditioner``; γ = 0 is plain SGD."""

    preconditioner: float = 0.0

    def stable_below(self) -> float:
        return 2.0

    def steady_below(self) -> float:
        return 1.0

    def response(self, x: Array) -> Response:
        return _Geometric(x)


@dataclass(frozen=True)
class HeavyBall:
    """v ← βv − αg, θ ← θ + v (F8), β = ``momentum``, v_0 = 0."""

    momentum: float
    preconditioner: float = 0.0

    def __post_init__(self) -> None:
        _check_decay("momentum", self.momentum)

    def stable_below(self) -> float:
        return 2 * (1 + self.momentum)

    def steady_below(self) -> float:
        """Over-damped: the ratios of successive means follow q' = 1 − x + β − β/q from q = 1 − x: each falls
        with x, and none falls below the larger root."""
        return ((1 - self.momentum) / (1 + np.sqrt(self.momentum))) ** 2

    def response(self, x: Array) -> Response:
        return _HeavyBallResponse(x, self.momentum) if self.momentum > 0 else _Geometric(x)


@dataclass(frozen=True)
class AveragedSGD:
    """SGD whose iterates are averaged, θ̃ ← μθ̃ + (1 − μ)θ (F9), μ = ``decay``, θ̃_0 = θ_0; the risk is θ̃'s."""

    decay: float
    preconditioner: float = 0.0

    def __post_init__(self) -> None:
        _check_decay("decay", self.decay)

    def stable_below(self) -> float:
        return 2.0

    def steady_below(self) -> float:
        return 1.0

    def response(self, x: Array) -> Response:
        return _AverageResponse(x, self.decay) if self.decay > 0 else _Geometric(x)


def _check_decay(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise UserError(f"{name} = {value}: must lie in [0, 1)")


def log_of_distance(x: Array) -> Array:
    """log|1 − x|, −inf at x = 1."""
    with np.errstate(divide="ignore"):
        out = np.log1p(-np.minimum(x, 1.0))
        if (beyond := x > 1).any():
            out[beyond] = np.log(x[beyond] - 1)
    return out


class _Geometric:
    """ρ = 1 − x: mean ρᵏ, energy (1 − ρ^{2k})/(1 − ρ²)."""

    def __init__(self, x: Array) -> None:
        self.x, self.log, self.sign = x, log_of_distance(x), np.where(x <= 1, 1.0, -1.0)

    def mean(self, k: int) -> Array:
        if k == 0:
            return np.ones_like(self.x)
        size = np.exp(k * self.log)
        return size if k % 2 == 0 else self.sign * size

    def energy(self, k: int) -> Array:
        return -np.expm1(2 * k * self.log) * self._limit if k > 0 else np.zeros_like(self.x)

    def limit(self) -> Array:
        return self._limit

    @cached_property
    def _limit(self) -> Array:
        return 1 / (self.x * (2 - self.x))

    def least_square(self, a: int, b: int, at_a: Array, at_b: Array) -> Array:
        return at_b**2


class _AverageResponse:
    """Roots ρ = 1 − x and μ: mean μᵏ + (1 − μ) ρ U_k, weights (1 − μ) U_j."""

    def __init__(self, x: Array, decay: float) -> None:
        self.x, self.decay, self.rho = x, decay, 1 - x
        away_rho = np.where(x <= 1, x, 2 - x)
        log_rho, away = log_of_distance(x), 1 - decay
        log_decay, sign = np.log1p(-away), np.where(x <= 1, 1.0, -1.0)
        first = away_rho <= away  # |ρ| >= μ
        self.roots = RealRoots(
            sign1=np.where(first, sign, 1.0),
            sign2=np.where(first, 1.0, sign),
            log1=np.where(first, log_rho, log_decay),
            log2=np.where(first, log_decay, log_rho),
            away1=np.where(first, away_rho, away),
            away2=np.where(first, away, away_rho),
            gap=np.abs(away - x),
        )

    def mean(self, k: int) -> Array:
        return self.decay**k + (1 - self.decay) * self.rho * self.roots.impulse(k)

    def energy(self, k: int) -> Array:
        return (1 - self.decay) ** 2 * self.roots.energy(k)

    def limit(self) -> Array:
        mu, product = self.decay, self.rho * self.decay
        return (1 - mu) / (1 + mu) * (1 + product) / (1 - product) / (self.x * (2 - self.x))

    def least_square(self, a: int, b: int, at_a: Array, at_b: Array) -> Array:
        """Falling where ρ >= 0; where ρ < 0 the part of μᵏ falls and the alternating part is bounded."""
        if self.rho.min() >= 0:
            return at_b**2
        size = np.abs(self.rho)
        steady = self.decay * self.x / (self.decay + size) * self.decay**b
        wave = (1 - self.decay) * size / (self.decay + size) * size**a
        return np.where(self.rho >= 0, at_b**2, np.maximum(steady - wave, 0.0) ** 2)


class _HeavyBallResponse:
    """Roots of r² − (1 − x + β) r + β = 0: mean U_{k+1} − β U_k, weights U_j.

    Directions are over-damped (two roots in (0, 1)) for x <= (1 − √β)², alternating (two roots in (−1, 0))
    for x >= (1 + √β)², and oscillate in between with both roots of size √β.
    """

    def __init__(self, x: Array, momentum: float) -> None:
        self.x, self.beta = x, momentum
        root = np.sqrt(momentum)
        self.low = ((1 - momentum) / (1 + root)) ** 2
        # 2(1 + β) − x, without rounding where it is small; and (1 + √β)² − x = edge − (1 − √β)².
        self.edge = 2 * momentum - (x - 2)
        self.over, self.alternating = x <= self.low, self.edge <= self.low
        self.waves = ~(self.over | self.alternating)
        self.real = ~self.waves
        self.real_roots = self._real(x[self.real], self.edge[self.real])
        wave, edge = x[self.waves], self.edge[self.waves]
        self.wave_roots = ComplexRoots(
            float(np.log1p(-(1 - momentum))),
            1 - momentum,
            np.where(1 - wave + momentum >= 0, 1.0, -1.0),
            np.arctan2(np.sqrt((wave - self.low) * (edge - self.low)), np.abs(1 - wave + momentum)),
        )
        angle = self.wave_roots.angle
        self.turn = np.where(self.wave_roots.sign > 0, angle, np.pi - angle)  # of a wave in one step

    def _real(self, x: Array, edge: Array) -> RealRoots:
        beta, over = self.beta, x <= self.low
        gap = np.sqrt((self.low - x) * (edge - self.low))
        # Over-damped: 1 − r₁ = 2x/(1 − β + x + gap) has no cancellation, and (1 − r₁)(1 − r₂) = x.
        slow = 2 * x / (1 - beta + x + gap)
        # Alternating: |r₂| from β = r₁r₂, and (1 − |r₁|)(1 − |r₂|) = 2(1 + β) − x.
        large = np.where(over, 1.0, (x - 1 - beta + gap) / 2)
        small = np.where(over, 0.0, beta / large)
        away1 = np.where(over, slow, edge / (1 - small))
        away2 = np.where(over, x / slow, 1 - small)
        log1, sign = np.log1p(-away1), np.where(over, 1.0, -1.0)
        return RealRoots(sign, sign, log1, np.log1p(-(1 - beta)) - log1, away1, away2, gap)

    def _gather(self, real: Array, waves: Array) -> Array:
        out = np.empty_like(self.x)
        out[self.real], out[self.waves] = real, waves
        return out

    def mean(self, k: int) -> Array:
        return self._gather(self.real_roots.falling(k), self.wave_roots.falling(k))

    def energy(self, k: int) -> Array:
        return self._gather(self.real_roots.energy(k), self.wave_roots.energy(k))

    def limit(self) -> Array:
        beta, x = self.beta, self.x
        return (1 + beta) / (x * (1 - beta) * self.edge)

    def least_square(self, a: int, b: int, at_a: Array, at_b: Array) -> Array:
        """Over-damped directions fall. A wave that has no zero between a and b is least at an end, but for
        its decay. Alternating directions are c₁r₁ᵏ + c₂r₂ᵏ with |c₁| > |c₂|, bounded term by term."""
        size_b = np.abs(at_b)
        if len(self.turn):
            waves_a, waves_b = at_a[self.waves], at_b[self.waves]
            one_sided = (waves_a * waves_b > 0) & (self.turn * (b - a) < np.pi)
            decay = self.beta ** ((b - a) / 2)
            size_b[self.waves] = one_sided * np.minimum(np.abs(waves_a) * decay, np.abs(waves_b))
        if self.alternating.any():
            size_b[self.alternating] = self._least_alternating(a, b)
        return size_b**2

    def _least_alternating(self, a: int, b: int) -> Array:
        roots, picked = self.real_roots, self.alternating[self.real]
        large, small, gap = np.exp(roots.log1[picked]), np.exp(roots.log2[picked]), roots.gap[picked]
        safe = np.where(gap > 0, gap, 1.0)
        bound = ((large + self.beta) * large**b - (self.beta + small) * small**a) / safe
        return np.where(gap > 0, np.maximum(bound, 0.0), 0.0)
