"""C_reg: a quarter of the mean squared norm of minibatch gradients."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sgdlit.objectives import Loss, frozen_statistics
from sgdlit.objectives.modified_loss import squared_length


def c_reg(network: nn.Module, loss: Loss, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """C_reg = 1/(4m) Σ_k ‖∇Ĉ_k‖², a scalar (Smith et al. 2021, 2101.12176, section 2.3).

    Args:
        network: its parameters that require a gradient are what ∇ differentiates by; nothing of it changes.
        loss: Ĉ_k is its mean over batch k.
        batches: inputs ``[B, ...]`` and targets ``[B, ...]`` of each of the m minibatches, at least one.
    """
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    norms = []
    with frozen_statistics(network), torch.enable_grad():
        for inputs, targets in batches:
            gradient = torch.autograd.grad(loss(network(inputs), targets), trainable, materialize_grads=True)
            norms.append(squared_length(list(gradient)).double())
    return torch.stack(norms).mean() / 4
