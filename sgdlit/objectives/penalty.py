"""The explicit regularizer: C becomes C + λ/4 ‖∇C‖². This file alone holds its factors.

The convention: minimise mean_k (C_k + λ/4 ‖∇C_k‖²) over the batches k that the penalty is taken on. Its
gradient is mean_k (g_k + λ/2 H_k g_k), and C_reg = ¼ mean_k ‖∇C_k‖² (Smith et al. 2021, 2101.12176, section
2.3). No factor is hidden anywhere else.

``modified_loss`` brings it into any training loop in one line:

    loss = modified_loss(cost, self.parameters(), reg_strength=2**-6).loss

Its result is an ordinary scalar with exactly that value and exactly that gradient, so clipping, accumulation,
mixed precision and DistributedDataParallel do with it what they do with any loss. It is built from g = ∇C
with its graph, and v, a copy of g without a graph: the gradient of C + λ/2 ⟨g, v⟩ with v held fixed is g +
λ/2 H v. With several ranks v is the mean of their gradients, so that the mean over ranks of the results'
gradients, which DDP takes, is the gradient of the modified loss of the whole batch, whatever the number of
ranks.

``modified_gradient`` is the same as a pure function of parameters, for one run or for several at once.
Several runs are stacked: parameters ``[K, ...]``, inputs and targets ``[K, B, ...]``, costs ``[K]``. The sum
of their costs has each run's own gradient, because no run's cost depends on another's parameters. One run
alone has no such dimension, and its cost is ``[]``.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.func import functional_call, vmap

from sgdlit.foundations.errors import UserError
from sgdlit.objectives import convolution, weight_norm
from sgdlit.objectives.losses import Loss
from sgdlit.objectives.second_derivatives import second_derivatives

Ranks: TypeAlias = "dist.ProcessGroup | Literal['world', 'local']"
Costs = Callable[[Mapping[str, Tensor], Tensor, Tensor], tuple[Tensor, Tensor]]
Number = TypeVar("Number", float, Tensor)


# The factors


def modified_value(cost: Number, squared_norm: Number, reg_strength: Any) -> Number:
    """C + λ/4 ‖∇C‖²."""
    return cost + reg_strength / 4 * squared_norm


def c_reg_of(squared_norm: Number) -> Number:
    """C_reg = ¼ ‖∇C‖², of the (mean) squared norm."""
    return squared_norm / 4


def weight_along(reg_strength: Number) -> Number:
    """λ/2: the weight of H g in the gradient g + λ/2 H g."""
    return reg_strength / 2


def check_strength(reg_strength: float) -> None:
    """Refuse what is no λ.

    Raises:
        UserError: negative, or not finite.
    """
    if not 0 <= reg_strength < float("inf"):
        raise UserError(f"reg_strength: {reg_strength} is not allowed; give a number from 0 upwards")


# For any training loop


class ModifiedLoss(NamedTuple):
    """The modified loss, to call ``backward`` on, and ‖∇C‖² (no graph; None if λ = 0)."""

    loss: Tensor
    squared_norm: Tensor | None


def modified_loss(
    cost: Tensor,
    parameters: Iterable[Tensor],
    reg_strength: float | Tensor,
    ranks: Ranks = "world",
) -> ModifiedLoss:
    """Add the penalty to the loss C of a batch.

    Args:
        cost: C, a scalar with its graph: the mean over this rank's slice of the batch.
        parameters: what ∇ differentiates by. Those that do not require a gradient, or on which C does not
            depend, take no part.
        reg_strength: λ. With the number 0 the loss is ``cost`` itself and nothing is computed. A tensor is
            taken as it is, unchecked, so that the device is not waited for.
        ranks: whose slices make up the batch on which the norm is taken: ``"world"``, all of
            torch.distributed's if it is initialised; ``"local"``, this one alone; or a process group.

    The price is about three times that of a plain gradient, and the activations are held about twice over.
    The result can be differentiated once.

    Raises:
        UserError: λ negative or not finite; no parameter that takes part.
    """
    if not isinstance(reg_strength, Tensor):
        check_strength(reg_strength)
        if reg_strength == 0:
            return ModifiedLoss(cost, None)
    gradient = _with_graph(cost, parameters)
    direction = mean_over_ranks([g.detach() for g in gradient], ranks)
    squared_norm = squared_length(direction)
    loss = _Penalized.apply(cost, squared_norm, reg_strength, direction, *gradient)
    return ModifiedLoss(loss, squared_norm)


def _with_graph(cost: Tensor, parameters: Iterable[Tensor]) -> list[Tensor]:
    """∇C with its graph, for the parameters that take part."""
    convolution.register()
    weight_norm.register()
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    gradient = torch.autograd.grad(cost, trainable, create_graph=True, allow_unused=True) if trainable else []
    gradient = [g for g in gradient if g is not None]
    if not gradient:
        raise UserError("parameters: the loss depends on none that requires a gradient")
    return gradient


def refuse_second_derivative() -> None:
    """Refuse a backward pass that is itself to be differentiated (create_graph=True).

    Raises:
        UserError: it is.
    """
    if torch.is_grad_enabled():
        raise UserError(
            "the modified loss can be differentiated once; its second derivative would lack terms"
        )


class _Penalized(torch.autograd.Function):
    """The modified loss as a value; backward hands 1 to C and λ/2 v to g, in one node for all parameters."""

    @staticmethod
    def forward(ctx, cost, squared_norm, reg_strength, direction, *gradient):
        ctx.reg_strength, ctx.direction = reg_strength, direction
        return modified_value(cost, squared_norm, reg_strength)

    @staticmethod
    def backward(ctx, grad_output):
        refuse_second_derivative()
        factor = (weight_along(ctx.reg_strength) * grad_output).to(ctx.direction[0].dtype)
        return grad_output, None, None, None, *torch._foreach_mul(ctx.direction, factor)


# Squared norms


def mean_over_ranks(tensors: list[Tensor], ranks: Ranks) -> list[Tensor]:
    """The mean of each tensor over the ranks, in one all-reduce."""
    if ranks == "local" or not (dist.is_available() and dist.is_initialized()):
        return tensors
    group = None if ranks == "world" else ranks
    size = dist.get_world_size(group)
    if size == 1:
        return tensors
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat, group=group)
    parts = (flat / size).split([t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def length(tensors: list[Tensor]) -> Tensor:
    """The Euclidean norm over all of some tensors, a scalar."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def squared_length(tensors: list[Tensor]) -> Tensor:
    """Σ ‖t‖², a scalar."""
    return torch.stack(torch._foreach_norm(tensors)).square().sum()


def squared_lengths(tensors: list[Tensor], runs: torch.Size) -> Tensor:
    """Σ ‖t‖² over a list of tensors ``[*runs, ...]``, for each run: shape ``runs``."""
    return torch.stack([t.reshape(*runs, -1).square().sum(-1) for t in tensors]).sum(0)


def squared_gradient_norm(
    network: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    ranks: Ranks = "local",
) -> Tensor:
    """‖∇C‖² of a batch, a scalar without a graph; the caller freezes BatchNorm's running statistics.

    Args:
        network: ∇ differentiates by its parameters that require a gradient.
        loss: C is its mean over the batch.
        inputs: ``[B, ...]``.
        targets: ``[B, ...]``.
        ranks: whose slices make up the batch, see :func:`modified_loss`.
    """
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        gradient = torch.autograd.grad(loss(network(inputs), targets), trainable, materialize_grads=True)
    return squared_length(mean_over_ranks(list(gradient), ranks))


# As a pure function, of one run or of stacked runs


class Gradient(NamedTuple):
    """The modified loss's gradient, C, ‖∇C‖² (None if λ = 0) and the network's outputs, without graphs."""

    gradient: list[Tensor]
    cost: Tensor
    squared_norm: Tensor | None
    outputs: Tensor


def spread(number: Tensor, like: Tensor) -> Tensor:
    """A number per run, ``[K]`` or ``[]``, shaped to multiply a tensor ``[K, ...]`` or ``[...]``."""
    return number.reshape(number.shape + (1,) * (like.dim() - number.dim()))


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
    """The gradient of the modified loss, averaged over the batches of the penalty.

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
    with nullcontext() if strength is None else second_derivatives():
        cost, outputs = costs(values, inputs, targets)
    leaves, total = [v for v in values.values() if v.requires_grad], cost.sum()
    if strength is not None:
        convolution.register()
        weight_norm.register()
    gradient = torch.autograd.grad(total, leaves, create_graph=strength is not None, materialize_grads=True)
    squared = None
    if strength is not None:
        direction = [g.detach() for g in gradient]
        squared = squared_lengths(direction, cost.shape)
        weights = [torch.ones_like(total), *(weight_along(spread(strength, v)) * v for v in direction)]
        gradient = torch.autograd.grad([total, *gradient], leaves, weights)
    return Gradient([g.detach() for g in gradient], cost.detach(), squared, outputs.detach())
