"""The gradient of the modified loss as a pure function of parameters, for one run or for several at once.

Several runs are stacked: parameters ``[K, ...]``, inputs and targets ``[K, B, ...]``, costs ``[K]``. The sum
of their costs has each run's own gradient, because no run's cost depends on another's parameters. One run
alone has no such dimension, and its cost is ``[]``.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from sgdlit.objectives.losses import Loss

Costs = Callable[[Mapping[str, Tensor], Tensor, Tensor], tuple[Tensor, Tensor]]


class Gradient(NamedTuple):
    """∇(C + λ/4 ‖∇C‖²), C, ‖∇C‖² (None if λ = 0) and the network's outputs, none of them with a graph."""

    gradient: list[Tensor]
    cost: Tensor
    squared_norm: Tensor | None
    outputs: Tensor


def spread(number: Tensor, like: Tensor) -> Tensor:
    """A number per run, ``[K]`` or ``[]``, shaped to multiply a tensor ``[K, ...]`` or ``[...]``."""
    return number.reshape(number.shape + (1,) * (like.dim() - number.dim()))


def squared_lengths(tensors: list[Tensor], runs: torch.Size) -> Tensor:
    """Σ ‖t‖² over a list of tensors ``[*runs, ...]``, for each run: shape ``runs``."""
    return torch.stack([t.reshape(*runs, -1).square().sum(-1) for t in tensors]).sum(0)


def costs_of(network: nn.Module, loss: Loss, stacked: bool) -> Costs:
    """(parameters and buffers by name, inputs, targets) -> (costs, outputs) of one run or of stacked runs."""

    def one(values: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        outputs = functional_call(network, dict(values), (inputs,))
        return loss(outputs, targets), outputs

    return vmap(one) if stacked else one


def modified_gradient(
    costs: Costs,
    values: Mapping[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    strength: Tensor | None,
    penalty_batch_size: int | None = None,
) -> Gradient:
    """The gradient of mean_k (C_k + λ/4 ‖∇C_k‖²) over the batches k of the penalty.

    Args:
        costs: see :func:`costs_of`.
        values: parameters and buffers by name; the gradient is by those that require one, in their order.
        inputs: ``[B, ...]``, or ``[K, B, ...]`` where runs are stacked.
        targets: as many.
        strength: λ, ``[]`` or ``[K]``; None for 0, which leaves ‖∇C‖² uncomputed.
        penalty_batch_size: examples of each batch of the penalty; None for all B.
    """
    if strength is None or penalty_batch_size is None:
        return _of_one_batch(costs, values, inputs, targets, strength)
    dim = strength.dim()
    batches = zip(*(t.split(penalty_batch_size, dim) for t in (inputs, targets)), strict=True)
    gradients, cost, squared, outputs = zip(
        *(_of_one_batch(costs, values, x, y, strength) for x, y in batches), strict=True
    )
    mean = [torch.stack(parts).mean(0) for parts in zip(*gradients, strict=True)]
    return Gradient(mean, torch.stack(cost).mean(0), torch.stack(squared).mean(0), torch.cat(outputs, dim))


def _of_one_batch(
    costs: Costs, values: Mapping[str, Tensor], inputs: Tensor, targets: Tensor, strength: Tensor | None
) -> Gradient:
    cost, outputs = costs(values, inputs, targets)
    leaves, total = [v for v in values.values() if v.requires_grad], cost.sum()
    penalized = strength is not None
    gradient = torch.autograd.grad(total, leaves, create_graph=penalized, materialize_grads=True)
    squared = None
    if penalized:
        direction = [g.detach() for g in gradient]
        squared = squared_lengths(direction, cost.shape)
        weights = [torch.ones_like(total), *(spread(strength, v) / 2 * v for v in direction)]
        gradient = torch.autograd.grad([total, *gradient], leaves, weights)
    return Gradient([g.detach() for g in gradient], cost.detach(), squared, outputs.detach())
