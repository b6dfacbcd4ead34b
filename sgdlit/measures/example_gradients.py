"""Gradients of single examples: their squared norms and their products with a vector, without storing them.

Where all trained parameters belong to linear layers, a backward pass to their outputs is enough: the gradient
of example i by the weights is Σ_t δ_it a_itᵀ, with the layer's inputs a and the gradients δ by its outputs,
over positions t of which a plain batch has one ("ghost norms", Goodfellow 2015, 1510.01799). Elsewhere each
example's gradient is formed, some at a time, by ``torch.func.vmap``; and one after another where an operation
of the network cannot be vectorised.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from sgdlit.data.batches import Batch
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.generators import ONE_AT_A_TIME, snapshot
from sgdlit.measures.from_scripts import LossOfEach, noticed, of_each
from sgdlit.measures.mean_gradient import (
    gradient_of,
    has_examples,
    require_examples,
    require_trained,
    squared_norm,
    trained_parameters,
)
from sgdlit.measures.undisturbed import (
    HALF,
    copied_buffers,
    outputs_of,
    preserved,
    refuse_coupled_examples,
    refuse_not_finite,
)
from sgdlit.measures.work import ALONE
from sgdlit.objectives import Loss
from sgdlit.objectives.factor_products import norms_of_batch, squares_of
from sgdlit.objectives.layer_factors import (
    Factors,
    NoPlainLayers,
    check_examples,
    check_factors,
    linear_layers,
    may_mix,
    recorded,
    spread,
    weights_like,
)
from sgdlit.objectives.second_derivatives import plain_attention

T = TypeVar("T")
_NUMBERS = 2**24  # of gradients that are held at a time, at most


class ExampleGradients(NamedTuple):
    """Of n examples: ‖g_i‖², and g_i·v where a direction v was given, float64 ``[n]`` each; and ‖Σg_i/n‖² of
    a single batch, where it was asked for."""

    squared_norms: Tensor
    products: Tensor | None
    of_mean: float | None = None


class Company(NamedTuple):
    """Some examples of a batch, without the others.

    Attributes:
        at: which of them, from 0.
        losses: of each of them, ``[k]``.
        gradient: of Σ_k w_k C_k over them, by parameter, where it was found; see
            :func:`sgdlit.objectives.layer_factors.check_examples`.
    """

    at: list[int]
    losses: Tensor
    gradient: dict[Tensor, Tensor]


class _Wanted(NamedTuple):
    """What is found of examples beside the norms."""

    direction: Mapping[str, Tensor] | None
    of_mean: bool


def example_gradients(
    network: nn.Module,
    loss: LossOfEach,
    batches: Iterable[Batch],
    direction: Mapping[str, Tensor] | None = None,
    of_mean: bool = False,
    checked: bool = False,
) -> ExampleGradients:
    """‖∇C_i‖² of every example, and ∇C_i·v; nothing of the network changes.

    Args:
        network: in the mode in which it is.
        loss: outputs and targets -> one loss for each example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]`` of any sizes, at least one.
        direction: v, by the parameter's name.
        of_mean: whether ‖Σg_i/n‖² is wanted too, of a single batch.
        checked: whether this network has been looked at before in this mode, and was not refused: what an
            example's outputs depend on is not looked at again.

    Raises:
        UserError: a loss that has no value per example; outputs of an example that depend on its batch, or
            on what the network draws; a network that has diverged; no examples.
    """
    wanted = _Wanted(direction, of_mean)
    found = each_batch(
        network,
        loss,
        batches,
        lambda factors: _of_linear_layers(factors, wanted),
        lambda gradients: _reduced(gradients, wanted),
        checked,
        of_mean,
    )
    assert len(found) == 1 or not of_mean, "of several batches the sum itself would be needed"
    return found[0] if len(found) == 1 else _joined(found)


def each_batch(
    network: nn.Module,
    loss: LossOfEach,
    batches: Iterable[Batch],
    of_factors: Callable[[dict[str, Factors]], T],
    of_gradients: Callable[[Iterable[dict[str, Tensor]]], T],
    checked: bool = False,
    of_mean: bool = False,
) -> list[T]:
    """What is found of the gradients of single examples, batch by batch; nothing of the network changes.

    Args:
        network: see :func:`example_gradients`, as ``loss``, ``batches`` and ``checked``.
        loss: outputs and targets -> one loss for each example.
        batches: inputs and targets.
        of_factors: factors of every layer by name -> what is found of a batch; it may raise NoPlainLayers.
        of_gradients: the gradients, ``[b, ...]`` by the parameter's name, some after others -> the same.
        checked: whether this network was not refused before.
        of_mean: whether the factors are those of the mean of a batch's losses, as a step has them, in place
            of their sum.

    Raises:
        UserError: see :func:`example_gradients`.
    """
    loss = of_each(loss)
    refuse_coupled_examples(network)
    refuse_not_finite(network)
    require_trained(network)
    with preserved(network) as looked_at, torch.enable_grad():
        seen = filter(has_examples, noticed(batches))
        return list(_by_batch(looked_at, loss, seen, of_factors, of_gradients, checked, of_mean))


def refuse_company(
    network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, with_gradient: bool = False
) -> Company:
    """Refuse a network whose outputs of an example depend on what else is in the batch, or on draws.

    Args:
        network: in the mode in which it is.
        loss: of each example.
        inputs: ``[b, ...]``.
        targets: ``[b, ...]``.
        with_gradient: whether that of what is returned is wanted, as where factors of layers are compared.

    Returns:
        What some examples have without the others, with which :func:`each_batch` compares what it finds.

    Raises:
        UserError: naming the network.
    """
    devices = {p.device for p in network.parameters()}
    with ONE_AT_A_TIME:
        before = snapshot(devices)
        at = spread(len(inputs))[:ALONE]
        alone = [loss.per_example(outputs_of(network, inputs[[k]]), targets[[k]]) for k in at]
        company = _company(network, loss, inputs, targets, with_gradient)
        drawn = snapshot(devices) != before
    if drawn:
        raise UserError(
            f"network: {type(network).__name__} draws random numbers here, so that an example has no "
            "gradient of its own; allowed: mode: eval, in which nothing is drawn"
        )
    here = f"in a batch of {len(company.at)}"
    _refuse_other_losses(network, at, "alone", torch.cat(alone), here, company.losses)
    return company


def _company(
    network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, with_gradient: bool = True
) -> Company:
    """Some examples of a batch."""
    at, parameters = spread(len(inputs)), list(trained_parameters(network).values())
    with torch.enable_grad():  # a network may need it to compute its outputs
        losses = loss.per_example(outputs_of(network, inputs[at]), targets[at])
    if not with_gradient:
        return Company(at, losses.detach(), {})
    gradient = gradient_of((losses * weights_like(losses)).sum(), parameters)
    return Company(at, losses.detach(), dict(zip(parameters, gradient, strict=True)))


def _refuse_other_losses(
    network: nn.Module, at: Sequence[int], here: str, few: Tensor, there: str, more: Tensor
) -> None:
    """Refuse examples ``at`` places of a batch, some of which have ``here`` other losses than ``there``.

    Raises:
        UserError: naming the network.
    """
    for number, one, other in zip(at, few.tolist(), more.tolist(), strict=False):
        if abs(one - other) > 1e-3 * (abs(one) + abs(other)) + 1e-6:
            found = f"a loss of {one:.4g} {here} and {other:.4g} {there}"
            raise UserError(
                f"network: {type(network).__name__} gives example {number + 1} {found}, so that an example "
                "has no gradient of its own; allowed: a network that looks at each example by itself"
            )


def _by_batch(
    network: nn.Module,
    loss: Loss,
    batches: Iterable[Batch],
    of_factors: Callable[[dict[str, Factors]], T],
    of_gradients: Callable[[Iterable[dict[str, Tensor]]], T],
    checked: bool,
    of_mean: bool,
) -> Iterator[T]:
    """Of each batch, by the fastest way that the network allows."""
    layers, vectorised = linear_layers(network), True
    for inputs, targets in batches:
        company = None if checked else refuse_company(network, loss, inputs, targets, layers is not None)
        checked = True
        if layers is not None:
            try:
                yield of_factors(_factors_of(network, layers, loss, inputs, targets, company, of_mean))
                continue
            except NoPlainLayers:
                layers = None
        if vectorised:
            try:
                yield of_gradients(_together(network, loss, inputs, targets))
                continue
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # an operation that vmap does not know
                vectorised = False
        yield of_gradients(_one_by_one(network, loss, inputs, targets))


# Linear layers


def _factors_of(
    network: nn.Module,
    layers: Mapping[str, nn.Linear],
    loss: Loss,
    inputs: Tensor,
    targets: Tensor,
    company: Company | None,
    of_mean: bool,
) -> dict[str, Factors]:
    """Those of all layers, from one backward pass of the sum of the losses, or of the mean, to their outputs.

    The gradients of the parameters themselves are found only where they are compared: with what some examples
    have without the others, and where positions may stand where examples should.

    Raises:
        UserError: some examples have other losses without the others.
        NoPlainLayers: a layer was not called exactly once, its parameters do more than that call shows, or
            its rows are no examples.
    """
    with recorded(layers, len(inputs)) as (entered, arrived):
        outputs = outputs_of(network, inputs)
        total = loss(outputs, targets) if of_mean else loss.per_example(outputs, targets).sum()
        if any(len(entered[name]) != 1 for name in layers):
            raise NoPlainLayers
        mixed = any(may_mix(a, len(inputs)) for (a,) in entered.values())
        parameters = _trained(layers) if mixed or company is not None else _reached_by(layers)
        gradient = gradient_of(total, parameters)
    found = {name: Factors(layer, entered[name][0], arrived[name]) for name, layer in layers.items()}
    if mixed and company is None:
        company = _company(network, loss, inputs, targets)
    if company is not None:
        losses = loss.per_example(outputs, targets).detach()
        here, there = (f"in a batch of {len(of)}" for of in (company.at, losses))
        _refuse_other_losses(network, company.at, here, company.losses, there, losses[company.at])
        check_factors(found.values(), dict(zip(parameters, gradient, strict=True)))
        check_examples(found.values(), company.gradient, 1 / len(inputs) if of_mean else 1)
    return found


def _of_linear_layers(found: Mapping[str, Factors], wanted: _Wanted) -> ExampleGradients:
    """From the factors of all layers."""
    if wanted.of_mean and wanted.direction is None:
        norms = norms_of_batch(found)
        return ExampleGradients(norms.squared_norms, None, float(norms.of_mean))
    first = next(iter(found.values())).inputs
    squares = torch.zeros(len(first), dtype=torch.float64, device=first.device)
    products = torch.zeros_like(squares)
    for name, (layer, a, delta) in found.items():
        squares += squares_of(layer, a, delta)
        if wanted.direction is not None:
            products += _products(layer, name, a, delta, wanted.direction)
    return ExampleGradients(squares, None if wanted.direction is None else products)


def _trained(layers: Mapping[str, nn.Linear]) -> list[Tensor]:
    return [
        p
        for layer in layers.values()
        for p in (layer.weight, layer.bias)
        if p is not None and p.requires_grad
    ]


def _reached_by(layers: Mapping[str, nn.Linear]) -> list[Tensor]:
    """Parameters on whose way the backward pass meets every layer's outputs, at the least cost: biases."""
    biases = [(layer, layer.bias) for layer in layers.values()]
    return [layer.weight if b is None or not b.requires_grad else b for layer, b in biases]


def _products(
    layer: nn.Linear, name: str, a: Tensor, delta: Tensor, direction: Mapping[str, Tensor]
) -> Tensor:
    """Σ_t δ_tᵀ V a_t, plus Σ_t δ_t·v of the bias: float64 ``[n]``."""
    prefix = f"{name}." if name else ""
    found = torch.zeros(len(a), dtype=torch.float64, device=a.device)
    if layer.weight.requires_grad:
        along = a @ direction[f"{prefix}weight"].to(a).T
        found += (delta.double() * along.double()).sum((1, 2))
    if layer.bias is not None and layer.bias.requires_grad:
        found += delta.double().sum(1) @ direction[f"{prefix}bias"].double()
    return found


# Any network


def _together(network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> Iterator[dict[str, Tensor]]:
    """The gradients themselves, ``[b, ...]`` by the parameter's name, of some examples at a time.

    Raises:
        RuntimeError: an operation that ``torch.func.vmap`` does not know.
    """
    parameters = {name: p.detach() for name, p in trained_parameters(network).items()}

    def cost(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(network, values, (x.unsqueeze(0),))
        return loss.per_example(outputs, y.unsqueeze(0)).sum()

    each = vmap(grad(cost), (None, 0, 0), randomness="different")
    at_a_time = max(1, _NUMBERS // max(1, sum(p.numel() for p in parameters.values())))
    parts = -(-len(inputs) // at_a_time)
    with copied_buffers(network), plain_attention():  # vmap takes fused attention apart, example by example
        for x, y in zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True):
            yield each(parameters, x, y)


def _one_by_one(
    network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor
) -> Iterator[dict[str, Tensor]]:
    """The same by one backward pass for each example."""
    parameters = trained_parameters(network)
    for x, y in zip(inputs.split(1), targets.split(1), strict=True):
        cost = loss.per_example(outputs_of(network, x), y).sum()
        gradient = gradient_of(cost, list(parameters.values()))
        yield {name: g.unsqueeze(0) for name, g in zip(parameters, gradient, strict=True)}


def _reduced(parts: Iterable[Mapping[str, Tensor]], wanted: _Wanted) -> ExampleGradients:
    """From the gradients of some examples after others, ``[n, ...]`` by the parameter's name."""
    found: list[ExampleGradients] = []
    total: dict[str, Tensor] = {}
    for gradients in parts:
        each = {name: gradient.detach() for name, gradient in gradients.items()}
        squares = torch.stack([_squares_of_each(gradient) for gradient in each.values()]).sum(0)
        products = None
        if wanted.direction is not None:
            along = [
                g.reshape(len(g), -1).double() @ wanted.direction[name].double().flatten()
                for name, g in each.items()
            ]
            products = torch.stack(along).sum(0)
        if wanted.of_mean:
            total = {name: total[name] + g.sum(0) if total else g.sum(0) for name, g in each.items()}
        found.append(ExampleGradients(squares, products))
    joined = _joined(found)
    of_mean = squared_norm(total) / len(joined.squared_norms) ** 2 if wanted.of_mean else None
    return joined._replace(of_mean=of_mean)


def _squares_of_each(gradients: Tensor) -> Tensor:
    """‖g_i‖² of tensors ``[n, ...]``, float64 ``[n]``: sums over all but the first dimension of each, which
    are short, in their own precision, at least float32, and sums of these in float64."""
    numbers = gradients.float() if gradients.dtype in HALF else gradients
    inner = tuple(range(2, numbers.dim()))
    rows = torch.linalg.vector_norm(numbers, dim=inner) if inner else numbers
    return rows.reshape(len(rows), -1).double().square().sum(1)


def _joined(parts: list[ExampleGradients]) -> ExampleGradients:
    require_examples(len(parts))
    products = [part.products for part in parts if part.products is not None]
    norms = torch.cat([part.squared_norms for part in parts])
    return ExampleGradients(norms, torch.cat(products) if products else None)
