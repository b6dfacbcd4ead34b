"""The response of a linear recurrence with two roots: heavy ball and iterate averaging are both of this kind.

For u_{k+1} = (r₁ + r₂) u_k − r₁r₂ u_{k−1} the response to a unit impulse is::

    U_k = (r₁ᵏ − r₂ᵏ) / (r₁ − r₂),    U_0 = 0, U_1 = 1
    S_k = Σ_{j=1}^k U_j² = [g(r₁²) + g(r₂²) − 2 g(r₁r₂)] / (r₁ − r₂)²,   g(q) = Σ_{j=1}^k qʲ

Heavy ball has the roots of r² − (1 − αh + β) r + β = 0; averaging with decay μ has 1 − αh and μ. All roots
are kept as logarithms and as distances from 1, so that geometric sums lose no digits at small rates. Where
the roots nearly meet (critical damping) the formula for S_k cancels; there S_k is summed by doubling, in a
basis in which every term is positive.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

Array = np.ndarray
_Entries = tuple[Array, Array, Array, Array]  # 11, 12, 21, 22 of a matrix for each direction

_NOTHING = 1e-170  # the size of a wave whose square is no number any more
_SETTLED = 1e-22  # what is left of a transient when its sum has its last digit

# Rounding in the closed form of S_k grows as 1/(separation · horizon)²; where that square is less, doubling.
_CRITICAL = 2e-3


@dataclass(frozen=True)
class RealRoots:
    """Pairs of real roots with 1 > |r₁| >= |r₂|; one entry per dimension.

    Attributes:
        sign1, sign2: signs of the roots, ±1.
        log1, log2: log|r₁|, log|r₂| (−inf for a root 0).
        away1, away2: 1 − |r₁|, 1 − |r₂|.
        gap: |r₁ − r₂|.
    """

    sign1: Array
    sign2: Array
    log1: Array
    log2: Array
    away1: Array
    away2: Array
    gap: Array

    @cached_property
    def opposite(self) -> Array | None:
        """Where the signs differ; None where they never do."""
        differ = self.sign1 != self.sign2
        return differ if differ.any() else None

    def impulse(self, k: int) -> Array:
        """U_k."""
        if k < 2:
            return np.full_like(self.gap, float(k))
        out = np.exp((k - 1) * self.log1) * self._expm1_ratio(k)
        if k % 2 == 0:
            out *= self.sign1
        if self.opposite is not None:
            o = self.opposite
            apart = _power(self.sign1[o], self.log1[o], k) - _power(self.sign2[o], self.log2[o], k)
            out[o] = apart / (self.sign1[o] * self.gap[o])
        return out

    def falling(self, k: int) -> Array:
        """U_{k+1} − r₁r₂ U_k for roots of one sign: r₁ᵏ [1 + (1 − r₁) q (1 − qᵏ)/(1 − q)], q = r₂/r₁."""
        risen = np.expm1(k * self._quotient[0]) * self._weight
        if self._equal is not None:
            risen[self._equal] = k * self._weight[self._equal]
        risen += 1
        risen *= np.exp(k * self.log1)
        return risen if k % 2 == 0 else risen * self.sign1

    def energy(self, k: int) -> Array:
        """S_k."""
        if k < 2:
            return np.full_like(self.gap, float(k))
        first, second, product, away = self._geometric_factors
        gone1, gone2 = -np.expm1(k * self.log1), -np.expm1(k * self.log2)  # 1 − |r|ᵏ, so 1 − r²ᵏ is:
        total = first * gone1 * (2 - gone1) + second * gone2 * (2 - gone2)
        cross = gone1 + gone2 - gone1 * gone2
        if self.opposite is not None and k % 2:
            cross[self.opposite] = 2 - cross[self.opposite]
        cross *= product
        total -= 2 * cross
        critical = self._closeness < np.sqrt(_CRITICAL) * np.maximum(away, 1 / k)
        out = total / np.where(critical, 1.0, self.gap) ** 2
        if critical.any():
            half1, half2 = np.exp(self.log1[critical] / 2), np.exp(self.log2[critical] / 2)
            excess = (self.gap[critical] / (half1 + half2)) ** 2  # r₁ + r₂ − 2√(r₁r₂)
            out[critical] = _energy_by_doubling(half1 * half2, excess, float(self.away1[critical].min()), k)
        return out

    @cached_property
    def _geometric_factors(self) -> tuple[Array, Array, Array, Array]:
        """q/(1 − q) for q = r₁², r₂², r₁r₂, and 1 − |r₁r₂|."""
        away = self.away1 + self.away2 - self.away1 * self.away2
        sign, product = self.sign1 * self.sign2, np.exp(self.log1 + self.log2)
        return (
            np.exp(2 * self.log1) / (self.away1 * (2 - self.away1)),
            np.exp(2 * self.log2) / (self.away2 * (2 - self.away2)),
            sign * product / np.where(sign > 0, away, 1 + product),
            away,
        )

    @cached_property
    def _closeness(self) -> Array:
        """|r₁ − r₂|/|r₁|; infinite where the signs differ, since nothing cancels there."""
        with np.errstate(divide="ignore", over="ignore"):
            relative = self.gap * np.exp(-self.log1)
        return relative if self.opposite is None else np.where(self.opposite, np.inf, relative)

    @cached_property
    def _quotient(self) -> tuple[Array, Array]:
        """log|r₂/r₁| <= 0, exact where the roots nearly meet, and expm1 of it (1 where they are equal)."""
        with np.errstate(divide="ignore"):
            logs = np.log1p(-np.minimum(self._closeness, 1.0))
        return logs, np.where(logs == 0, 1.0, np.expm1(logs))

    @cached_property
    def _equal(self) -> Array | None:
        """Where the roots are equal; None where they never are."""
        equal = self._quotient[0] == 0
        return equal if equal.any() else None

    @cached_property
    def _weight(self) -> Array:
        """(1 − r₁) q/expm1(log q), and 1 − r₁ where q = 1."""
        logs, once = self._quotient
        return np.where(self.sign1 > 0, self.away1, 2 - self.away1) * np.exp(logs) / once

    def _expm1_ratio(self, k: int) -> Array:
        """(1 − qᵏ)/(1 − q) for q = |r₂/r₁|; k where q = 1."""
        logs, once = self._quotient
        out = np.expm1(k * logs) / once
        if self._equal is not None:
            out[self._equal] = k
        return out


@dataclass(frozen=True)
class ComplexRoots:
    """Pairs r = ±√p e^{±iω}.

    Attributes:
        log_product: log p, a number.
        away: 1 − p, a number.
        sign: ±1, one entry per dimension.
        angle: ω in (0, π/2], so that it is exact also for roots near −√p.
    """

    log_product: float
    away: float
    sign: Array
    angle: Array

    def falling(self, k: int) -> Array:
        """U_{k+1} − p U_k, with one sine and one cosine."""
        size, phase = np.exp(k / 2 * self.log_product), k * self.angle
        if size < _NOTHING:
            return np.zeros_like(self.angle)
        wave = size * (np.cos(phase) + self._slope * np.sin(phase))
        return wave if k % 2 == 0 else wave * self.sign

    def energy(self, k: int) -> Array:
        """S_k = [g(p) − Re g(p e^{2iω})] / (2 p sin²ω)."""
        if k < 2:
            return np.full_like(self.angle, float(k))
        p, decay = np.exp(self.log_product), np.exp(k * self.log_product)
        if decay < _SETTLED:
            return self._limit
        sine, real, imaginary = self._factors
        far_sine, far_cosine = np.sin(k * self.angle), np.cos(k * self.angle)
        # 1 − zᵏ for z = p e^{2iω}, from its distance from 1.
        far_real = -np.expm1(k * self.log_product) + 2 * decay * far_sine**2
        far_imaginary = -2 * decay * far_sine * far_cosine
        g = real * far_real - imaginary * far_imaginary
        straight = p * -np.expm1(k * self.log_product) / self.away
        horizon = min(k, 1 / self.away)
        critical = np.minimum(2 * sine, 1.0) * horizon < np.sqrt(_CRITICAL)
        out = (straight - g) / (2 * p * np.where(critical, 1.0, sine) ** 2)
        if critical.any():
            angle, root = self.angle[critical], np.exp(self.log_product / 2)
            excess = -4 * root * np.sin(angle / 2) ** 2
            out[critical] = _energy_by_doubling(np.full_like(angle, root), excess, self.away / 2, k)
        return out

    @cached_property
    def _limit(self) -> Array:
        """S_k for k → ∞, (1 + p)/((1 − p)((1 + p)² − (r₁ + r₂)²)) with r₁ + r₂ = ±2√p cos ω."""
        p = np.exp(self.log_product)
        return (1 + p) / (self.away * (self.away**2 + 4 * p * np.sin(self.angle) ** 2))

    @cached_property
    def _slope(self) -> Array:
        return (np.cos(self.angle) - self.sign * np.exp(self.log_product / 2)) / self._factors[0]

    @cached_property
    def _factors(self) -> tuple[Array, Array, Array]:
        """sin ω, and the real and imaginary part of z/(1 − z) for z = p e^{2iω}."""
        p, sine = np.exp(self.log_product), np.sin(self.angle)
        z = p * (1 - 2 * sine**2 + 1j * np.sin(2 * self.angle))
        quotient = z / (self.away + 2 * p * sine**2 - 1j * p * np.sin(2 * self.angle))
        return sine, quotient.real.copy(), quotient.imag.copy()


def _power(sign: Array, log: Array, k: int) -> Array:
    """(sign·e^{log})^k, k >= 1."""
    return sign**k * np.exp(k * log)


def _energy_by_doubling(root: Array, excess: Array, away: float, k: int) -> Array:
    """S_k in ⌈log₂ k⌉ doublings, for roots near each other.

    With r = √(r₁r₂) and the pair (U_j, D_j), D_j = U_j − r U_{j−1}, one step is M = [[r + e, r], [e, r]]
    where e = r₁ + r₂ − 2r is small; and P_{2j} = P_j + M^j P_j (M^j)ᵀ for P_j = Σ_{i<=j} (U_i, D_i)(U_i,
    D_i)ᵀ. With ``away`` the least 1 − |r|, the terms beyond 40/away, below e⁻⁸⁰ of the first, add nothing.
    """
    k = min(k, int(40 / away) + 2)
    step = (root + excess, root, excess, root)
    power, p = step, (np.ones_like(root), np.ones_like(root), np.ones_like(root))
    for bit in bin(k)[3:]:
        x, y, z = _congruence(power, p)
        p = p[0] + x, p[1] + y, p[2] + z
        power = _product(power, power)
        if bit == "1":
            x, y, z = _congruence(step, p)
            p = 1 + x, 1 + y, 1 + z
            power = _product(power, step)
    return p[0]


def _product(m: _Entries, n: _Entries) -> _Entries:
    a, b, c, d = m
    e, f, g, h = n
    return a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h


def _congruence(m: _Entries, p: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """The entries 11, 12, 22 of M P Mᵀ."""
    a, b, c, d = m
    x, y, z = p
    return (
        a * a * x + 2 * a * b * y + b * b * z,
        a * c * x + (a * d + b * c) * y + b * d * z,
        c * c * x + 2 * c * d * y + d * d * z,
    )
