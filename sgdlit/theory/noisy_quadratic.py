"""The noisy quadratic model: exact risk of SGD, momentum and averaging, without simulating anything.

L(θ) = ½ Σ_i h_i θ_i², gradients h_i θ_i + noise of variance c_i/B, independent at every step; θ_0 random with
E θ_{0,i}² = s_i. Since no direction sees another, the risk after k steps at learning rate α is::

    E L_k = bias(k) + noise(k)/B = Σ_i ½ h_i s_i mean_i(k)² + (1/B) Σ_i ½ h_i α² c_i energy_i(k)

with the responses of :mod:`sgdlit.theory.optimizers`. A preconditioner P = H^γ replaces h_i by h_i^{1−γ}
and c_i by c_i h_i^{−2γ} in the dynamics, and leaves the loss (F7). Zhang et al. 2019 (arXiv 1907.04164);
the standard instance is h_i = c_i = 1/i with s_i = 1 in 10⁴ dimensions.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sgdlit.data.spectra import power_law
from sgdlit.foundations.errors import UserError
from sgdlit.theory.optimizers import SGD, Optimizer
from sgdlit.theory.two_roots import Array


@dataclass(frozen=True)
class NoisyQuadratic:
    """Curvatures h, gradient noise variances c at batch size 1, and start E θ_0² = s; float64 [D] each.

    Raises:
        UserError: a curvature that is not positive, a negative variance or start, unequal lengths.
    """

    curvature: Array
    noise: Array
    start: Array

    def __post_init__(self) -> None:
        for name in ("curvature", "noise", "start"):
            values = np.atleast_1d(np.asarray(getattr(self, name), dtype=np.float64))
            object.__setattr__(self, name, values)
            least = "positive" if name == "curvature" else ">= 0"
            bad = ~np.isfinite(values) | (values <= 0 if name == "curvature" else values < 0)
            if bad.any():
                raise UserError(f"{name}[{bad.argmax()}] = {values[bad.argmax()]}: must be {least}")
        if not self.curvature.shape == self.noise.shape == self.start.shape or self.curvature.ndim != 1:
            raise UserError(
                f"curvature, noise and start have {self.curvature.shape}, {self.noise.shape} and "
                f"{self.start.shape} entries: must be vectors of one length"
            )

    @classmethod
    def power_law(cls, dimensions: int = 10_000, exponent: float = 1.0) -> "NoisyQuadratic":
        """h_i = c_i = i^{−exponent}, E θ_0² = 1."""
        h = power_law(dimensions, exponent)
        return cls(h, h, np.ones_like(h))

    def largest_lr(self, optimizer: Optimizer = SGD()) -> float:  # noqa: B008 (frozen, no state)
        """The learning rate at and above which the risk diverges."""
        return optimizer.stable_below() / float((self.curvature ** (1 - optimizer.preconditioner)).max())

    def information_bound(self, target: float, batch_size: float) -> float:
        """D/(2 · target · B): steps that any method needs when c = h, for a start of unbounded variance.

        It is the risk D/(2kB) of the mean of kB observations. With a start of finite variance it is a bound
        where kB is well above D; :meth:`bayes_risk` is the exact one everywhere.
        """
        check_target(target)
        return len(self.curvature) / (2 * target * batch_size)

    def bayes_risk(self, steps: float, batch_size: float) -> float:
        """Σ_i ½ h_i s_i / (1 + kB h_i² s_i/c_i): no method that sees k minibatches has a smaller mean risk.

        The posterior variance of the minimum in direction i, for a normal start and normal noise.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = steps * batch_size * self.curvature**2 * self.start / self.noise
            terms = 0.5 * self.curvature * self.start / (1 + precision)
        return float(np.where(self.start > 0, terms, 0.0).sum())


@dataclass(frozen=True)
class ExactRisk:
    """A model, an optimizer and a learning rate; the batch size only scales the noise.

    Raises:
        UserError: a rate that is not positive, or so large that the risk diverges (it says from where).
    """

    model: NoisyQuadratic
    optimizer: Optimizer
    lr: float

    def __post_init__(self) -> None:
        largest = self.model.largest_lr(self.optimizer)
        if not 0 < self.lr < largest:
            raise UserError(
                f"lr = {self.lr}: must lie above 0 and below {largest:.6g}, where α·h reaches "
                f"{self.optimizer.stable_below():.6g} in the steepest direction and {self.optimizer} diverges"
            )

    @cached_property
    def response(self):
        return self.optimizer.response(self.lr * self.model.curvature ** (1 - self.optimizer.preconditioner))

    @cached_property
    def bias_weights(self) -> Array:
        """½ h s."""
        return 0.5 * self.model.curvature * self.model.start

    @cached_property
    def noise_weights(self) -> Array:
        """½ h α² c h^{−2γ}."""
        h, gamma = self.model.curvature, self.optimizer.preconditioner
        return 0.5 * self.lr**2 * self.model.noise * h ** (1 - 2 * gamma)

    def second_moments(self, steps: int, batch_size: float) -> Array:
        """E θ_i² (E θ̃_i² for averaging) after ``steps`` steps, [D]."""
        k = _check_steps(steps)
        noise = self.noise_weights / (0.5 * self.model.curvature) / check_batch(batch_size)
        return self.model.start * self.response.mean(k) ** 2 + noise * self.response.energy(k)

    def risk(self, steps: int, batch_size: float) -> float:
        """E L after ``steps`` steps."""
        return self.bias(_check_steps(steps)) + self.noise(steps) / check_batch(batch_size)

    def floor(self, batch_size: float) -> float:
        """The risk for k → ∞."""
        return float(self.noise_weights @ self.response.limit()) / check_batch(batch_size)

    def bias(self, k: int) -> float:
        """Σ ½ h s mean(k)²."""
        return float(self.bias_weights @ self.response.mean(k) ** 2)

    def noise(self, k: int) -> float:
        """Σ ½ h α² c energy(k): the noise part at batch size 1; never falls with k."""
        return float(self.noise_weights @ self.response.energy(k))


def risk(
    model: NoisyQuadratic, optimizer: Optimizer, lr: float, batch_size: float, steps: Array | list[int]
) -> Array:
    """E L at each of ``steps``, float64 of their shape; exact to rounding."""
    exact = ExactRisk(model, optimizer, lr)
    return np.array([exact.risk(int(k), batch_size) for k in np.ravel(steps)]).reshape(np.shape(steps))


def _check_steps(steps: int) -> int:
    if steps < 0:
        raise UserError(f"steps = {steps}: must be >= 0")
    return int(steps)


def check_batch(batch_size: float) -> float:
    if not batch_size > 0:
        raise UserError(f"batch_size = {batch_size}: must be positive")
    return batch_size


def check_target(target: float) -> None:
    if not target > 0:
        raise UserError(f"target = {target}: must be positive")
