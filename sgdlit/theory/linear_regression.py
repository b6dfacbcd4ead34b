"""Stochastic linear regression with Gaussian inputs: gradient covariance and exact risk of SGD.

t = w_*ᵀx + N(0, σ²), x ~ N(0, Σ), δ = w_* − w, loss ½(t − wᵀx)². The gradient of one example has covariance
(F10)::

    Cov(g) = σ² Σ + Σδδᵀ Σ + (δᵀΣδ) Σ

of which the first part is label noise, and the rest, the noise of which inputs were drawn, vanishes at w_*.

For SGD with minibatches of B fresh examples the second moments m_i = E δ_i² along the eigenvectors of Σ
(eigenvalues λ_i) follow a closed linear recursion, a diagonal matrix plus one of rank one::

    m' = T m + (α²σ²/B) λ,   T = diag(1 − 2αλ_i + α²(1 + 1/B)λ_i²) + (α²/B) λλᵀ

by Isserlis' theorem, so that the risk ½ λᵀm after any number of steps is exact through one
eigendecomposition.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sgdlit.foundations.errors import UserError

Array = np.ndarray


def gradient_covariance(covariance: Array, delta: Array, label_variance: float) -> Array:
    """F10: the covariance of one example's gradient −(t − wᵀx)x, [D, D].

    Args:
        covariance: Σ, [D, D].
        delta: δ = w_* − w, [D].
        label_variance: σ².
    """
    if label_variance < 0:
        raise UserError(f"label_variance = {label_variance}: must be >= 0")
    pulled = covariance @ delta
    return (label_variance + delta @ pulled) * covariance + np.outer(pulled, pulled)


@dataclass(frozen=True)
class GaussianRegression:
    """SGD on Gaussian inputs.

    Attributes:
        spectrum: eigenvalues λ of Σ, [D], positive.
        lr: the learning rate α.
        batch_size: B, fresh examples per step.
        label_variance: σ².

    Raises:
        UserError: eigenvalues that are not positive, a rate or batch size that is not, a negative variance.
    """

    spectrum: Array
    lr: float
    batch_size: int
    label_variance: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "spectrum", np.atleast_1d(np.asarray(self.spectrum, dtype=np.float64)))
        if not (self.spectrum > 0).all():
            raise UserError(f"spectrum holds {self.spectrum.min()}: eigenvalues must be positive")
        if not (self.lr > 0 and self.batch_size >= 1 and self.label_variance >= 0):
            raise UserError(
                f"lr = {self.lr}, batch_size = {self.batch_size}, label_variance = {self.label_variance}: "
                "must be positive, at least 1, and not negative"
            )

    @cached_property
    def _modes(self) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors of 1 − T, which is symmetric."""
        a, b, spectrum = self.lr, self.batch_size, self.spectrum
        matrix = np.diag(2 * a * spectrum - a**2 * (1 + 1 / b) * spectrum**2)
        return np.linalg.eigh(matrix - a**2 / b * np.outer(spectrum, spectrum))

    def is_stable(self) -> bool:
        """Whether the second moments stay bounded."""
        return bool(self._modes[0][0] > 0 and self._modes[0][-1] < 2)

    def risk(self, start: Array, steps: Array | list[int]) -> Array:
        """The mean excess risk ½ E δᵀΣδ after each of ``steps``.

        Args:
            start: E δ_i² at step 0 along the eigenvectors, [D].
            steps: whole numbers >= 0.

        Raises:
            UserError: the rate is so large that the risk diverges.
        """
        gaps, vectors = self._modes
        if not self.is_stable():
            raise UserError(
                f"lr = {self.lr}: the second moments diverge at batch_size = {self.batch_size}; "
                f"the largest stable rate is {largest_stable_lr(self.spectrum, self.batch_size):.6g}"
            )
        seen = vectors.T @ self.spectrum
        begin, force = vectors.T @ start, self.lr**2 * self.label_variance / self.batch_size * seen
        with np.errstate(divide="ignore"):
            logs = np.where(gaps < 1, np.log1p(-np.minimum(gaps, 1.0)), np.log(np.maximum(gaps - 1, 0.0)))
        signs = np.where(gaps <= 1, 1.0, -1.0)
        out = []
        for k in np.ravel(steps).tolist():
            grown = signs**k * np.exp(k * logs) if k > 0 else np.ones_like(logs)
            summed = np.where(signs**k > 0, -np.expm1(k * logs) if k > 0 else 0.0, 1 - grown) / gaps
            out.append(0.5 * seen @ (grown * begin + summed * force))
        return np.array(out).reshape(np.shape(steps))


def largest_stable_lr(spectrum: Array, batch_size: int) -> float:
    """The rate at which the second moments of :class:`GaussianRegression` stop being bounded.

    T has the eigenvalue 1 where Σ_i (α/B)λ_i/(2 − α(1 + 1/B)λ_i) = 1; the left side grows with α.
    """
    lam, b = np.asarray(spectrum, dtype=np.float64), batch_size
    low, high = 0.0, 2 / ((1 + 1 / b) * lam.max())
    for _ in range(200):
        middle = (low + high) / 2
        if (middle / b * lam / (2 - middle * (1 + 1 / b) * lam)).sum() < 1:
            low = middle
        else:
            high = middle
    return low


def simulate_regression(model: GaussianRegression, start: Array, steps: int, runs: int, seed: int) -> Array:
    """The excess risk ½ δᵀΣδ of independent runs of SGD from δ = ``start``; float64 [steps + 1, runs]."""
    import torch

    from sgdlit.foundations.philox import derive_key, normal

    keys = [derive_key(seed, f"theory/regression-{part}") for part in ("inputs", "labels")]
    b, d, lam = model.batch_size, len(model.spectrum), model.spectrum
    delta, members = np.repeat(start[None].astype(np.float64), runs, 0), torch.arange(runs)
    out = [0.5 * delta**2 @ lam]
    for step in range(steps):
        x = normal(keys[0], members, b * d, substream=step, dtype=torch.float64).numpy().reshape(runs, b, d)
        noise = normal(keys[1], members, b, substream=step, dtype=torch.float64).numpy()
        x = x * np.sqrt(lam)
        residual = np.einsum("rbd,rd->rb", x, delta) + np.sqrt(model.label_variance) * noise
        delta = delta - model.lr / b * np.einsum("rb,rbd->rd", residual, x)
        out.append(0.5 * delta**2 @ lam)
    return np.stack(out)
