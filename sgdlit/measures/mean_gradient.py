"""The mean of the cost and of its gradient over examples that come in batches: float64 sums with counts."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.measures.from_scripts import noticed
from sgdlit.measures.undisturbed import preserved

MeanLoss = Callable[[Tensor, Tensor], Tensor]
"""Outputs and targets of a batch -> the mean cost over its examples, or the cost of each, ``[b]``."""


class MeanGradient(NamedTuple):
    """C and ∇C over ``examples`` examples; the gradient in float64, by the parameter's name."""

    cost: float
    gradient: dict[str, Tensor]
    examples: int


def trained_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that ∇ differentiates by, by name: each tensor once, frozen ones left out."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def mean_gradient(network: nn.Module, loss: MeanLoss, batches: Iterable[Batch]) -> MeanGradient:
    """C = Σ_k b_k C_k / Σ_k b_k over batches of b_k examples, and ∇C; nothing of the network changes.

    Args:
        network: in the mode in which it is.
        loss: its mean over a batch, or one of each example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]`` of any sizes, at least one.
    """
    parameters = trained_parameters(network)
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    total, count = 0.0, 0
    with preserved(network), torch.enable_grad():
        for inputs, targets in noticed(batches):
            cost = loss(network(inputs), targets).mean()
            found = torch.autograd.grad(cost, list(parameters.values()), materialize_grads=True)
            for own, gradient in zip(sums.values(), found, strict=True):
                own.add_(gradient.double(), alpha=len(targets))
            total, count = total + len(targets) * float(cost.detach()), count + len(targets)
    return MeanGradient(total / count, {name: own.div_(count) for name, own in sums.items()}, count)


def mean_cost(network: nn.Module, loss: MeanLoss, batches: Iterable[Batch]) -> float:
    """C = Σ_k b_k C_k / Σ_k b_k over batches of b_k examples, without a gradient."""
    total, count = 0.0, 0
    with preserved(network), torch.no_grad():
        for inputs, targets in noticed(batches):
            cost = float(loss(network(inputs), targets).mean())
            total, count = total + len(targets) * cost, count + len(targets)
    return total / count


def squared_norm(vector: Mapping[str, Tensor]) -> float:
    """‖v‖² of a vector that is given by the names of parameters."""
    return sum(float(torch.linalg.vector_norm(part, dtype=torch.float64)) ** 2 for part in vector.values())


def layers_of(network: nn.Module) -> dict[str, str]:
    """The layer of each parameter: the module that holds it. A parameter of a list is a layer by itself."""
    found = {}
    for module_name, module in network.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            whole = f"{module_name}.{name}" if module_name else name
            alone = isinstance(module, nn.ParameterList | nn.ParameterDict) or not module_name
            found[whole] = whole if alone else module_name
    return {name: found[name] for name, _ in network.named_parameters()}


def squared_norms_by_layer(network: nn.Module, vector: Mapping[str, Tensor]) -> dict[str, float]:
    """‖v_l‖² of the part of a vector that belongs to each layer; see :func:`layers_of`."""
    layers, found = layers_of(network), dict[str, float]()
    for name, part in vector.items():
        found[layers[name]] = found.get(layers[name], 0.0) + squared_norm({name: part})
    return found
