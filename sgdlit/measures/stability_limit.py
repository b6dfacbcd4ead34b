"""Up to which curvature an optimizer's steps contract on a quadratic."""

from dataclasses import dataclass

from torch.optim import SGD, Adam, AdamW, Optimizer

from sgdlit.foundations.arguments import require_above_zero
from sgdlit.foundations.errors import UserError


@dataclass(frozen=True)
class StabilityLimit:
    """On a quadratic with curvature λ the steps contract where ε(factor·λ + shift) < limit.

    λ is that of the Hessian; for Adam and AdamW that of the preconditioned one, see
    :mod:`sgdlit.measures.preconditioned_sharpness`.

    Attributes:
        lr: ε.
        limit: no unit; 2 for gradient descent.
        shift: what weight decay adds to the curvature.
        factor: of the gradient: B where the optimizer receives the sum over a batch, else 1.
    """

    lr: float
    limit: float
    shift: float = 0.0
    factor: float = 1.0

    def lr_times(self, sharpness: float) -> float:
        """ε(factor·λ + shift), no unit, to be held against ``limit``."""
        return self.lr * (self.factor * sharpness + self.shift)

    @property
    def sharpness(self) -> float:
        """The λ at the limit; infinite at ε = 0."""
        return (self.limit / self.lr - self.shift) / self.factor if self.lr else float("inf")


def stability_limit(optimizer: Optimizer, factor: float = 1.0) -> StabilityLimit:
    """The limit of torch's optimizer at its present learning rate.

    With momentum β: gradient descent 2, heavy ball 2(1 + β), over 1 − τ with dampening τ, Nesterov
    (2 + 2β)/(1 + 2β) (Cohen et al. 2021, 2103.00065, appendix B). Adam with constant second moments:
    2(1 + β₁)/(1 − β₁) (Cohen et al. 2022, 2207.14484); AdamW, with decay w beside the gradient,
    (1 + β₁)(2 − εw)/(1 − β₁), from z = −1 in z² − (1 + β₁ − εw − ε(1−β₁)λ)z + β₁(1 − εw).

    Args:
        optimizer: SGD, Adam or AdamW, with one group of parameters.
        factor: see :class:`StabilityLimit`.

    Raises:
        UserError: another one; a factor that is not positive.
    """
    require_above_zero(factor=factor)
    kind, groups = type(optimizer), optimizer.param_groups
    if kind not in (SGD, Adam, AdamW) or len(groups) > 1 or groups[0]["maximize"]:
        what = kind.__name__ + (f" with {len(groups)} groups of parameters" if len(groups) > 1 else "")
        raise UserError(f"stability limit: not known of {what}; allowed: SGD, Adam, AdamW, of one group")
    group = groups[0]
    lr, decay = float(group["lr"]), float(group["weight_decay"])
    if kind is SGD:
        beta = float(group["momentum"])
        limit = 2 * (1 + beta) / (1 - float(group["dampening"]) if beta else 1)
        if group["nesterov"]:
            limit = 2 * (1 + beta) / (1 + 2 * beta)
        return StabilityLimit(lr, limit, decay, factor)
    beta = float(group["betas"][0])
    if kind is AdamW or group.get("decoupled_weight_decay"):
        return StabilityLimit(lr, (1 + beta) * (2 - lr * decay) / (1 - beta), 0.0, factor)
    return StabilityLimit(lr, 2 * (1 + beta) / (1 - beta), 0.0, factor)
