"""The mean of the cost and of its gradient over examples that come in batches: float64 sums with counts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.errors import UserError
from sgdlit.measures.from_scripts import noticed, of_mean
from sgdlit.measures.undisturbed import outputs_of, preserved, refuse_not_finite, require_tensor

T = TypeVar("T")
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

    Raises:
        UserError: no loss; a network that has diverged or has nothing to train; no examples.
    """
    loss = of_mean(loss)
    refuse_not_finite(network)
    with preserved(network) as looked_at, torch.enable_grad():
        parameters = trained_parameters(require_trained(looked_at))
        sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
        total, count = 0.0, 0
        for inputs, targets in filter(has_examples, noticed(batches)):
            cost = loss(outputs_of(looked_at, inputs), targets).mean()
            found = gradient_of(cost, list(parameters.values()))
            for own, gradient in zip(sums.values(), found, strict=True):
                own.add_(gradient, alpha=len(targets))
            total, count = total + len(targets) * float(cost.detach()), count + len(targets)
    require_examples(count)
    return MeanGradient(total / count, {name: own.div_(count) for name, own in sums.items()}, count)


def mean_cost(network: nn.Module, loss: MeanLoss, batches: Iterable[Batch]) -> float:
    """C = Σ_k b_k C_k / Σ_k b_k over batches of b_k examples, without a gradient.

    Raises:
        UserError: no loss; a network that has diverged; no examples.
    """
    loss = of_mean(loss)
    refuse_not_finite(network)
    total, count = 0.0, 0
    with preserved(network) as looked_at, torch.no_grad():
        for inputs, targets in filter(has_examples, noticed(batches)):
            cost = float(loss(outputs_of(looked_at, inputs), targets).mean())
            total, count = total + len(targets) * cost, count + len(targets)
    require_examples(count)
    return total / count


def gradient_of(cost: Tensor, parameters: Sequence[Tensor], with_graph: bool = False) -> list[Tensor]:
    """∇C by some parameters; zeros of those that take no part, also where none does.

    Raises:
        UserError: checkpointing of a kind that knows only ``backward``.
    """
    if not cost.requires_grad:
        return [torch.zeros_like(p) for p in parameters]
    try:
        return list(torch.autograd.grad(cost, parameters, create_graph=with_graph, materialize_grads=True))
    except RuntimeError as error:
        if "use_reentrant=True" not in str(error):
            raise
        raise UserError(
            "network: torch.utils.checkpoint with use_reentrant=True has no gradients outside of backward(); "
            "allowed: use_reentrant=False"
        ) from error


def require_trained(network: nn.Module) -> nn.Module:
    """The network, if it has something to train.

    Raises:
        UserError: it has not.
    """
    if not trained_parameters(network):
        raise UserError(
            f"network: {type(network).__name__} has no parameters that require a gradient; allowed: one with "
            "some"
        )
    return network


def has_examples(batch: Batch) -> bool:
    """Whether a batch is not empty.

    Raises:
        UserError: inputs that are no tensor.
    """
    require_tensor(batch[0])
    return len(batch[0]) > 0


def require_examples(count: int, needed: int = 1) -> None:
    """Refuse too few examples.

    Raises:
        UserError: naming how many there are.
    """
    if count < needed:
        raise UserError(f"batches: {count or 'no'} examples; allowed: {needed} or more")


def squared_norm(vector: Mapping[str, Tensor]) -> float:
    """‖v‖² of a vector that is given by the names of parameters."""
    parts = [part.detach() for part in vector.values()]
    norms = list(torch._foreach_norm(parts, dtype=torch.float64)) if parts else []
    return sum(length**2 for length in (torch.stack(norms).tolist() if norms else ()))


def layers_of(network: nn.Module) -> dict[str, str]:
    """The layer of each parameter: the module that holds it. A parameter of a list is a layer by itself."""
    found = {}
    for module_name, module in network.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            whole = f"{module_name}.{name}" if module_name else name
            alone = isinstance(module, nn.ParameterList | nn.ParameterDict) or not module_name
            found[whole] = whole if alone else module_name
    return {name: found[name] for name, _ in network.named_parameters()}


def by_layer(layers: Mapping[str, str], vector: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """What belongs to each layer of what is given by the names of parameters; see :func:`layers_of`."""
    found: dict[str, dict[str, T]] = {}
    for name, part in vector.items():
        found.setdefault(layers[name], {})[name] = part
    return found


def squared_norms_by_layer(layers: Mapping[str, str], vector: Mapping[str, Tensor]) -> dict[str, float]:
    """‖v_l‖² of the part of a vector that belongs to each layer; see :func:`layers_of`."""
    return {layer: squared_norm(part) for layer, part in by_layer(layers, vector).items()}
