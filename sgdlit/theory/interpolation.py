"""SGD under interpolation: linear scaling with the batch size, then saturation (G14, F12).

Least squares that fits its N examples exactly, H = (1/N) Σ x_i x_iᵀ with extreme eigenvalues λ₁ and λ_n,
β₀ = max_i ‖x_i‖²; minibatches of b examples drawn with replacement. Ma, Bassily & Belkin (arXiv 1712.06559)::

    η*(b) = b/(β₀ + (b − 1)λ₁),   E‖w_t − w_*‖² ≤ (1 − η* λ_n)ᵗ ‖w_0 − w_*‖²,   b* = β₀/λ₁ + 1

Up to b* a step with b examples is worth about b steps with one (at least b/2); beyond, more examples hardly
help.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sgdlit.foundations.errors import UserError

Array = np.ndarray


@dataclass(frozen=True)
class Interpolation:
    """Inputs x of the N examples, [N, D], of full column rank."""

    inputs: Array

    def __post_init__(self) -> None:
        if self.inputs.ndim != 2 or np.linalg.matrix_rank(self.inputs) < self.inputs.shape[1]:
            raise UserError(
                f"inputs of shape {self.inputs.shape} do not determine the weights: rank is too low"
            )

    @cached_property
    def hessian(self) -> Array:
        return self.inputs.T @ self.inputs / len(self.inputs)

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """λ_n and λ₁."""
        values = np.linalg.eigvalsh(self.hessian)
        return float(values[0]), float(values[-1])

    @property
    def largest_square(self) -> float:
        """β₀."""
        return float((self.inputs**2).sum(1).max())

    @property
    def critical_batch(self) -> float:
        """b* = β₀/λ₁ + 1."""
        return self.largest_square / self.extremes[1] + 1

    def best_lr(self, batch_size: float) -> float:
        """η*(b) of F12."""
        return batch_size / (self.largest_square + (batch_size - 1) * self.extremes[1])

    def bound(self, batch_size: float) -> float:
        """1 − η*(b) λ_n, the bound on the factor of E‖w − w_*‖² per step."""
        return 1 - self.best_lr(batch_size) * self.extremes[0]

    def exact_factor(self, batch_size: float, lr: float) -> float:
        """The exact asymptotic factor of E‖w − w_*‖² per step at learning rate ``lr``.

        The largest eigenvalue of M ↦ M − η(HM + MH) + η²[(1 − 1/b) HMH + (1/b) mean_i x_i x_iᵀ M x_i x_iᵀ] on
        symmetric matrices; a dense D² × D² problem, for small D.
        """
        h, d, count = self.hessian, self.inputs.shape[1], len(self.inputs)
        identity = np.eye(d)
        squares = np.einsum("ni,nj->nij", self.inputs, self.inputs).reshape(count, d * d)
        fourth = (squares.T @ squares / count).reshape(d, d, d, d).transpose(0, 1, 2, 3).reshape(d * d, d * d)
        step = np.eye(d * d) - lr * (np.kron(h, identity) + np.kron(identity, h))
        step += lr**2 * ((1 - 1 / batch_size) * np.kron(h, h) + fourth / batch_size)
        return float(np.abs(np.linalg.eigvals(step)).max())

    def best_exact(self, batch_size: float) -> tuple[float, float]:
        """The rate with the least exact factor, and that factor."""
        from scipy.optimize import minimize_scalar

        low, high = 0.5 * self.best_lr(batch_size), 2 / self.extremes[1]
        found = minimize_scalar(
            lambda lr: self.exact_factor(batch_size, lr), bounds=(low, high), method="bounded"
        )
        return float(found.x), float(found.fun)
