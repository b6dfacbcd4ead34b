"""Losses as functions of one flat parameter vector, which is what the theory of a flow needs.

Everything here is float64 and goes through ``torch.func``, so that gradients, Hessian–vector products and
batches of parameter vectors (``vmap``) are available for any network.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from sgdlit.foundations.errors import UserError

FlatLoss = Callable[[Tensor], Tensor]
"""A scalar loss of a flat parameter vector, shape [P] -> []."""


def mean_loss(losses: Sequence[FlatLoss]) -> FlatLoss:
    """C = (1/m) Σ_k Ĉ_k, the loss of the whole epoch."""
    if not losses:
        raise UserError("losses is empty: at least one minibatch loss is needed")

    def mean(w: Tensor) -> Tensor:
        return torch.stack([loss(w) for loss in losses]).mean()

    return mean


def largest_curvature(loss: FlatLoss, w: Tensor, iterations: int = 100) -> float:
    """The eigenvalue of the Hessian at w, [P], that is largest in size, as near as power iteration gets."""
    slope = grad(loss)
    direction = torch.cos(torch.arange(len(w), dtype=w.dtype) * 1.7)  # at a right angle to nothing
    value = torch.zeros((), dtype=w.dtype)
    for _ in range(iterations):
        direction = direction / direction.norm()
        curved = grad(lambda at, v=direction: slope(at) @ v)(w)
        value, direction = direction @ curved, curved
    return float(value)


def flat_parameters(model: nn.Module) -> Tensor:
    """All parameters of ``model`` as one float64 vector, shape [P], in the order of ``named_parameters``."""
    return torch.cat([p.detach().to(torch.float64).flatten() for p in model.parameters()])


def flat_losses(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    minibatches: Sequence[tuple[Tensor, Tensor]],
) -> list[FlatLoss]:
    """The minibatch losses Ĉ_k of a network as functions of its flat parameters.

    Args:
        model: any network without buffers that change (no BatchNorm in training mode).
        loss_fn: ``loss_fn(model(x), y)`` -> scalar, the mean over the minibatch.
        minibatches: the pairs (x, y); floating x are converted to float64.

    Returns:
        One function [P] -> [] per minibatch.
    """
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    sizes = [p.numel() for p in model.parameters()]

    def loss_of(x: Tensor, y: Tensor) -> FlatLoss:
        x = x.to(torch.float64) if x.is_floating_point() else x
        y = y.to(torch.float64) if y.is_floating_point() else y

        def loss(w: Tensor) -> Tensor:
            pieces = (part.view(shape) for part, shape in zip(w.split(sizes), shapes, strict=True))
            return loss_fn(functional_call(model, dict(zip(names, pieces, strict=True)), (x,)), y)

        return loss

    return [loss_of(x, y) for x, y in minibatches]
