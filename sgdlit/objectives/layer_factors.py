"""What a backward pass shows of single examples: inputs and slopes of linear layers.

The gradient of example i by a layer's weights is Σ_t δ_it a_itᵀ, with the layer's inputs a and the gradients
δ of the cost by its outputs, over positions t of which a plain batch has one (Goodfellow 2015, 1510.01799).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

WEIGHTS = (1, 2, 3, 4)
"""Of some examples of a batch, in a sum of costs that shows whether a network moves one of them."""
_POSITIONS = 64  # of a sequence: above, products between all of them cost more than the gradients do


class Factors(NamedTuple):
    """Of a layer, whose gradient for example i is Σ_t δ_it a_itᵀ: its inputs a ``[n, positions, in]``, and
    the gradients δ by its outputs ``[n, positions, out]``."""

    layer: nn.Linear
    inputs: Tensor
    slopes: Tensor


class NoPlainLayers(Exception):
    """The layers do more than apply their weights once to every example."""


def linear_layers(network: nn.Module) -> dict[str, nn.Linear] | None:
    """The linear layers by name, where they hold all trained parameters and share none; None elsewhere."""
    layers, trained = {}, 0
    for name, module in network.named_modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad]
        if own and not (isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward):
            return None
        if own and isinstance(module, nn.Linear):
            layers[name] = module
            trained += len(own)
    return layers if layers and trained == sum(p.requires_grad for p in network.parameters()) else None


@contextmanager
def recorded(
    layers: Mapping[str, nn.Linear], examples: int
) -> Iterator[tuple[dict[str, list[Tensor]], dict[str, Tensor]]]:
    """The inputs of each layer at each call, and the gradients by its outputs, both ``[n, positions, ...]``.

    A hook on a tensor sees the gradient by the values that the tensor had when the hook was added, whatever
    is done to it in place afterwards.
    """
    entered: dict[str, list[Tensor]] = {name: [] for name in layers}
    arrived: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.dim() < 2 or len(output) != examples or not output.requires_grad:
            raise NoPlainLayers
        entered[name].append(inputs[0].detach().reshape(examples, -1, inputs[0].shape[-1]))
        positions = output[0].numel() // output.shape[-1]
        arrived[name] = output.detach().new_zeros(()).expand(examples, positions, output.shape[-1])
        if arrived[name].shape[1] > _POSITIONS:
            raise NoPlainLayers
        output.register_hook(lambda g: arrived.__setitem__(name, g.detach().reshape(arrived[name].shape)))

    handles = [
        layer.register_forward_hook(lambda *seen, name=name: record(name, *seen))
        for name, layer in layers.items()
    ]
    try:
        yield entered, arrived
    finally:
        for handle in handles:
            handle.remove()


def may_mix(inputs: Tensor, examples: int) -> bool:
    """Whether the shape of a layer's inputs ``[n, positions, in]`` leaves open that positions stand where
    examples should."""
    return inputs.shape[1] > 1 and inputs.shape[1] % examples == 0


def factors_in_order(
    layers: Mapping[str, nn.Linear], entered: Mapping[str, list[Tensor]], arrived: Mapping[str, Tensor]
) -> list[Tensor]:
    """Inputs and slopes of one layer after another, of those that were recorded.

    Raises:
        NoPlainLayers: a layer was not called exactly once.
    """
    if any(len(entered[name]) != 1 for name in layers):
        raise NoPlainLayers
    return [factor for name in layers for factor in (entered[name][0], arrived[name])]


def check_examples(found: Iterable[Factors], gradients: Mapping[Tensor, Tensor], share: float) -> None:
    """Rows of factors belong to other examples, or to none, where a network moves examples between its layers
    and back, and where a layer's first dimension counts positions that are as many: some examples, spread
    over the batch, show it, each with a weight of its own.

    Args:
        found: factors of the layers, of all examples of a batch.
        gradients: of Σ_k w_k C_k of the examples :func:`spread`, with :data:`WEIGHTS` w; by parameter, of all
            that are trained. They are found without the other examples.
        share: of the cost of each example in what the slopes are derivatives of.

    Raises:
        NoPlainLayers: their rows make another gradient.
    """
    some = []
    for layer, a, delta in found:
        at = spread(len(a))
        some.append(Factors(layer, a[at], delta[at] * weights_like(delta[at])[:, None, None] / share))
    check_factors(some, gradients)


def spread(examples: int) -> list[int]:
    """As many of so many examples as there are weights, from the first to the last: no usual move leaves all
    of them in their places."""
    count = min(examples, len(WEIGHTS))
    return [k * (examples - 1) // max(count - 1, 1) for k in range(count)]


def weights_like(costs: Tensor) -> Tensor:
    """:data:`WEIGHTS` of some costs ``[n, ...]``, no more than there are: ``[n]``."""
    return torch.tensor(WEIGHTS[: len(costs)], dtype=costs.dtype, device=costs.device)


def check_factors(found: Iterable[Factors], gradients: Mapping[Tensor, Tensor]) -> None:
    """Parameters that are used outside of their layer's call have a gradient that the call does not show.

    Compared are the sums of the slopes with the gradient of the bias, and the product with one vector, which
    is cheap, with that of the weights: Σ_nt δ_nt(a_nt·r) with Gr.

    Args:
        found: factors of the layers.
        gradients: of a sum of costs, by parameter; of every layer's parameters that are trained.

    Raises:
        NoPlainLayers: they differ by more than rounding.
    """
    for layer, a, delta in found:
        r = torch.cos(torch.arange(a.shape[-1], dtype=a.dtype, device=a.device))
        slopes, along = delta.flatten(0, 1), (a @ r).flatten()
        if layer.weight.requires_grad:
            _check_sum(slopes, along, gradients[layer.weight] @ r)
        if layer.bias is not None and layer.bias.requires_grad:
            _check_sum(slopes, torch.ones_like(along), gradients[layer.bias])


def _check_sum(slopes: Tensor, factors: Tensor, gradient: Tensor) -> None:
    """Whether Σ_k f_k δ_k is a gradient, but for a share of it and for the rounding of what cancels."""
    rounding = 64 * torch.finfo(slopes.dtype).eps * torch.linalg.vector_norm(slopes.abs().T @ factors.abs())
    allowed = 1e-3 * torch.linalg.vector_norm(gradient) + rounding + 1e-30
    if torch.linalg.vector_norm(slopes.T @ factors - gradient) > allowed:
        raise NoPlainLayers
