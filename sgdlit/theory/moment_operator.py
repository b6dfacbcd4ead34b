"""Mean-square stability of SGD at a minimum that fits every example: the exact operator, and coherence (F21).

Near such a minimum w ← Jw with J = I − (ε/B) Σ_i x_i H_i, where each of the n examples is in the batch with
probability B/n independently of the others, and H_i is its Hessian. The second moment M = E wwᵀ follows ::

    E[JMJ] = (I − εH) M (I − εH) + (ε²/n²)(n/B − 1) Σ_i H_i M H_i,    H = (1/n) Σ_i H_i

and E‖w‖² falls for every start if the spectral radius of this map is below 1. Where a rate is stable every
smaller one is: with a P ≻ 0 that the adjoint map does not raise, HP + PH ⪰ ε(HPH + …) holds for less ε too.

Source: Dexter et al. 2024, arXiv 2401.12332.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sgdlit.foundations.errors import UserError

Array = np.ndarray

_DENSE = 30  # largest d whose d² × d² matrix is formed
_ITERATIONS = 20_000


@dataclass(frozen=True)
class Hessians:
    """The Hessians of n examples, symmetric and positive semidefinite, float64 ``[n, d, d]``.

    Raises:
        UserError: another shape; all of them zero.
    """

    each: Array

    def __post_init__(self) -> None:
        shape = self.each.shape
        if len(shape) != 3 or shape[1] != shape[2] or not shape[0]:
            raise UserError(f"Hessians of shape {shape}: allowed is [n, d, d]")
        if not self.each.any():
            raise UserError("Hessians: all of them are zero, so every rate is stable")

    @staticmethod
    def rank_one(inputs: Array) -> "Hessians":
        """H_i = x_i x_iᵀ of least squares with the inputs x_i, ``[n, d]``."""
        return Hessians(np.einsum("ni,nj->nij", inputs, inputs))

    @property
    def count(self) -> int:
        """n."""
        return len(self.each)

    @cached_property
    def mean(self) -> Array:
        """H, ``[d, d]``."""
        return self.each.mean(0)

    @cached_property
    def sharpness(self) -> float:
        """λ₁(H)."""
        return float(np.linalg.eigvalsh(self.mean)[-1])

    @cached_property
    def coherence(self) -> float:
        """σ = λ₁(S)/max_i λ₁(H_i) with S_ij = ‖H_i^½ H_j^½‖_F = √tr(H_i H_j): 1 where the examples share no
        direction, n where they all have the same Hessian of rank one."""
        products = np.einsum("iab,jab->ij", self.each, self.each)
        similar = np.sqrt(np.maximum(products, 0))
        return float(np.linalg.eigvalsh(similar)[-1] / np.linalg.eigvalsh(self.each)[:, -1].max())

    @cached_property
    def _squares(self) -> Array:
        """Σ_i H_i ⊗ H_i, ``[d², d²]``."""
        d = len(self.mean)
        return np.einsum("nac,nbd->abcd", self.each, self.each).reshape(d * d, d * d)

    def spread(self, lr: float, batch_size: float) -> float:
        """(ε²/n²)(n/B − 1).

        Raises:
            UserError: B not in (0, n].
        """
        if not 0 < batch_size <= self.count:
            raise UserError(f"batch_size = {batch_size}: must be above 0 and at most n = {self.count}")
        return lr**2 / self.count**2 * (self.count / batch_size - 1)

    def next_moment(self, moment: Array, lr: float, batch_size: float) -> Array:
        """E[JMJ], ``[d, d]``, of M; costs n·d³."""
        step = np.eye(len(self.mean)) - lr * self.mean
        noise = np.einsum("nab,bc,ncd->ad", self.each, moment, self.each, optimize=True)
        return step @ moment @ step + self.spread(lr, batch_size) * noise

    def matrix(self, lr: float, batch_size: float) -> Array:
        """The map on M as a vector of d² numbers, ``[d², d²]``."""
        step = np.eye(len(self.mean)) - lr * self.mean
        return np.kron(step, step) + self.spread(lr, batch_size) * self._squares

    def radius(self, lr: float, batch_size: float) -> float:
        """The spectral radius of the map: the factor per step of E‖w‖² in the long run.

        The whole spectrum for d ≤ 30. Beyond, the power iteration from M = I, which is positive as the map
        is, so that the trace grows by the radius in the end.

        Raises:
            UserError: the iteration did not settle.
        """
        d = len(self.mean)
        if d <= _DENSE:
            return float(np.abs(np.linalg.eigvals(self.matrix(lr, batch_size))).max())
        return self.iterated_radius(lr, batch_size)

    def iterated_radius(self, lr: float, batch_size: float, tolerance: float = 1e-10) -> float:
        """The same by the power iteration; relative change of the factor per step below ``tolerance``."""
        moment, before = np.eye(len(self.mean)), 0.0
        for _ in range(_ITERATIONS):
            moment = self.next_moment(moment / np.trace(moment), lr, batch_size)
            factor = float(np.trace(moment))
            if abs(factor - before) <= tolerance * factor:
                return factor
            before = factor
        raise UserError(f"lr = {lr}: the moment's factor per step did not settle in {_ITERATIONS} steps")

    def critical_lr(self, batch_size: float) -> float:
        """The ε at which the radius becomes 1, by bisection to rounding; below it E‖w‖² falls.

        Directions in which every example is flat are left out: nothing moves there.
        """
        curved = self._curved()
        low, high = 0.0, 2 / self.sharpness
        while (middle := (low + high) / 2) not in (low, high):
            if curved.radius(middle, batch_size) < 1:
                low = middle
            else:
                high = middle
        return high

    def _curved(self) -> "Hessians":
        """The same on the range of H."""
        values, vectors = np.linalg.eigh(self.mean)
        basis = vectors[:, values > 1e-12 * values[-1]]
        if basis.shape[1] == len(values):
            return self
        return Hessians(np.einsum("ai,nab,bj->nij", basis, self.each, basis))

    def unstable_above(self, batch_size: float) -> float:
        """σ(n/B − 1)^(−½), at most 2: the bound on ε·λ₁ above which SGD is unstable."""
        ratio = self.count / batch_size - 1
        return min(2.0, self.coherence / ratio**0.5) if ratio > 0 else 2.0

    def reached(self, batch_size: float) -> float:
        """2σ/(σ + n/B − 1): the ε·λ₁ that some Hessians of this coherence reach at the edge of stability."""
        return 2 * self.coherence / (self.coherence + self.count / batch_size - 1)


def simulate(
    inputs: Array,
    lr: float,
    batch_size: float,
    start: Array,
    runs: int,
    steps: int,
    draw: np.random.Generator,
) -> Array:
    """w after some steps of w ← w − (ε/B) Σ_i m_i x_i (x_iᵀw), with m_i = 1 at probability B/n.

    Args:
        inputs: x, ``[n, d]``.
        start: of all runs, ``[d]``, or of each, ``[runs, d]``.

    Returns:
        float64 ``[runs, d]``.
    """
    w = np.broadcast_to(start, (runs, inputs.shape[1])).copy()
    chance = batch_size / len(inputs)
    for _ in range(steps):
        chosen = draw.random((runs, len(inputs)), dtype=np.float32) < chance
        w -= lr / batch_size * ((w @ inputs.T) * chosen) @ inputs
    return w
