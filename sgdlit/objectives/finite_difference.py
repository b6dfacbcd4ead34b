"""The forward-difference form of the explicit regularizer: two gradients, and not the same regularizer.

With u = g/‖g‖ the gradient is taken to be

    g + w ‖g‖ (∇C(θ + δu) - g) / δ,

with the weight w of ``penalty``, which tends to the exact g + w H g as δ -> 0 if C is twice differentiable
(Smith et al. 2021, 2101.12176, section 2.3, and Geiping et al. 2021, 2109.14119). When it is *not* the same
thing:

* ReLU networks. As soon as the step of length δ crosses kinks, the difference contains the jumps of the
  gradient there, which H (defined almost everywhere) does not. For WRN-10-1 and MLPs its error was 0.3 to 20
  times the length of H g for every δ above 1e-5, in float64 too. It is a regularizer of its own, which may
  be of interest as such, and not a cheaper way to the exact one.
* bfloat16. The perturbed parameters differ from the unperturbed ones by less than their rounding unless δ is
  large.
* δ. In float32 on smooth networks, 1e-3 to 3e-2 is good to a few per cent; below that rounding takes over.

The perturbed parameters are new tensors, which are never mistaken for the old ones by the cache of
``torch.autocast``.
"""

import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.objectives.losses import Loss
from sgdlit.objectives.objective import Evaluation, Objective, PrecomputedGradient, frozen_statistics
from sgdlit.objectives.penalty import Ranks, mean_over_ranks, modified_value, squared_length, weight_along


class FiniteDifferencePenalty(Objective):
    """The modified loss as a value, with the penalty's gradient by a forward difference.

    Args:
        penalty_batch_size: see ``Objective``.
        delta: length δ of the step along the normalised gradient, in the parameters' Euclidean norm.

    Raises:
        UserError: δ not positive.
    """

    small = ({"delta": 1e-6},)
    gradients = 2

    def __init__(self, penalty_batch_size: int | None = None, delta: float = 1e-2) -> None:
        super().__init__(penalty_batch_size)
        if not delta > 0:
            raise UserError(f"delta: {delta} is not allowed; give a number above 0")
        self.delta = delta

    def check_network(self, network: nn.Module) -> None:
        """Only first derivatives are taken, which every network has; but twice, so they must be the same."""
        dropout = (m for m in network.modules() if isinstance(m, nn.modules.dropout._DropoutNd))
        if any(module.p > 0 for module in dropout):
            raise UserError(
                "FiniteDifferencePenalty: its two gradients would draw different dropout masks; use "
                "ExactPenalty"
            )

    def evaluate_penalized(
        self,
        network: nn.Module,
        loss: Loss,
        inputs: Tensor,
        targets: Tensor,
        reg_strength: float,
        ranks: Ranks,
    ) -> Evaluation:
        trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
        outputs = network(inputs)
        cost = loss(outputs, targets)
        gradient = torch.autograd.grad(cost, list(trainable.values()), materialize_grads=True)
        direction = mean_over_ranks(list(gradient), ranks)
        squared_norm = squared_length(direction)
        norm = squared_norm.sqrt().clamp(min=torch.finfo(squared_norm.dtype).tiny)

        step = torch._foreach_mul(direction, self.delta / norm)
        ahead = self.gradient_ahead(network, loss, inputs, targets, trainable, list(step))
        difference = torch._foreach_sub(ahead, gradient)
        torch._foreach_mul_(difference, weight_along(reg_strength) * norm / self.delta)
        torch._foreach_add_(difference, gradient)

        value = modified_value(cost.detach(), squared_norm, reg_strength)
        modified = PrecomputedGradient.apply(value, difference, *trainable.values())
        return Evaluation(modified, cost.detach(), squared_norm, outputs.detach())

    @staticmethod
    def gradient_ahead(
        network: nn.Module,
        loss: Loss,
        inputs: Tensor,
        targets: Tensor,
        trainable: dict[str, nn.Parameter],
        step: list[Tensor],
    ) -> tuple[Tensor, ...]:
        """∇C at the parameters plus ``step``, with BatchNorm's running statistics left alone."""
        with torch.no_grad():
            ahead = torch._foreach_add(list(trainable.values()), step)
        moved = {name: p.requires_grad_() for name, p in zip(trainable, ahead, strict=True)}
        with frozen_statistics(network):
            outputs = torch.func.functional_call(network, moved, (inputs,))
        return torch.autograd.grad(loss(outputs, targets), list(moved.values()), materialize_grads=True)
