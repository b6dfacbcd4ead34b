"""What passes through a network cost, in gradients of one example: counted, not timed.

A pass costs its multiplications, the numbers that it moves in memory and, whatever the number of examples,
something for each of its operations. All three are counted by running the pass on two and on four examples.
How much a byte, an operation and a call of a measure weigh against a multiplication or an addition are
constants below: those of a core of a usual x86 CPU, found once, so that a plan is the same on every machine.
``scripts/bench.py --only measures`` prints shares that follow from them beside shares that were timed.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sgdlit.foundations.errors import UserError
from sgdlit.measures.example_gradients import example_gradients
from sgdlit.measures.from_scripts import of_each
from sgdlit.measures.mean_gradient import MeanLoss, gradient_of, mean_cost, trained_parameters
from sgdlit.measures.products import HessianProducts
from sgdlit.measures.undisturbed import outputs_of, undisturbed
from sgdlit.measures.work import Work
from sgdlit.objectives.layer_factors import WEIGHTS, linear_layers

OPERATION = 2.0**18
"""Multiplications and additions, of products of matrices, in whose time Python calls an operation."""
BYTE = 2.5
"""Of them, in the time in which a byte is read or written; near ones, as parameters of small networks are."""
_VIEW = OPERATION / 4  # an operation that only looks at its numbers in another way
_CALL = 2.0**24  # of a measure, which leaves no trace: random generators, modes and buffers are put back
_STEP = 30 * OPERATION  # to make a batch, to move the parameters, and to count
_FUSED_STEP = OPERATION  # of many that are taken in one call of compiled code
_UPDATE = 3 * 4  # bytes of each parameter: it is read, its gradient is, and it is written
_EACH = 1.5  # gradients of examples that are formed one by one, over those of their mean


class Pass(NamedTuple):
    """What a pass of n examples costs: fixed + each·n."""

    fixed: float = 0.0
    each: float = 0.0

    def of(self, examples: float, together: float) -> float:
        """Of so many examples, some of them together."""
        return self.fixed * math.ceil(examples / together - 1e-9) + self.each * examples

    def over(self, unit: float) -> "Pass":
        """In another unit."""
        return Pass(self.fixed / unit, self.each / unit)


class Prices(NamedTuple):
    """In gradients of one example, as part of a large batch; those of a deep network of convolutions.

    Attributes:
        forward: a pass without a gradient.
        gradient: of the mean over a batch.
        example_gradient: a gradient, with the norm of each example's own.
        product: one with the Hessian, whose graph is there.
        call: of a measure, whatever it does.
        vector: all parameters once, read or written in memory.
        example_product: what it adds to the gradient of an example to multiply it with a vector.
        step: what a step costs beside its gradients.
        fused_step: the same of one that compiled code takes, in which nothing is called.
    """

    forward: Pass = Pass(0.0, 1 / 3)
    gradient: Pass = Pass(0.0, 1.0)
    example_gradient: Pass = Pass(0.0, _EACH)
    product: Pass = Pass(0.0, 2.0)
    call: float = 0.0
    vector: float = 0.0
    example_product: Pass = Pass()
    step: float = 0.0
    fused_step: float = 0.0

    def of(self, work: Work, examples: int, chunk_size: int) -> float:
        """Of some work, on so many examples in chunks, or of as many together as it says itself."""
        called = work.together or max(examples, 1)
        together = min(called, chunk_size)
        found = self.vector * work.vectors + self.call * work.calls
        found += self.example_product.of(work.example_products, together)
        for kind, seen in (
            (self.forward, work.forwards),
            (self.gradient, work.gradients),
            (self.example_gradient, work.example_gradients),
            (self.product, work.products),
        ):
            found += kind.of(seen, together) + self.call * math.ceil(seen / called - 1e-9)
        return found

    def of_step(
        self, batch_size: int, gradients: int, products: int = 0, alike: int = 1, fused: bool = False
    ) -> float:
        """Of a step that takes some gradients of so many examples.

        Args:
            batch_size: B.
            gradients: of each example.
            products: with the Hessian, which a penalty's gradient is.
            alike: of so many runs one operation is called for all.
            fused: whether compiled code takes it.
        """
        own = (gradients * self.gradient.each + products * self.product.each) * batch_size
        if fused:
            return own + self.fused_step
        fixed = gradients * self.gradient.fixed + products * self.product.fixed
        return own + (fixed + self.step) / alike


def prices_of(network: nn.Module, loss: MeanLoss, inputs: Tensor, targets: Tensor) -> Prices:
    """The prices for a network, whose passes are counted on two examples and on four.

    A gradient costs three times a pass forwards where no layer is the first, and less where one is, since
    nothing is differentiated by inputs; a product costs twice a gradient there, and once in a first layer.

    Args:
        network: in any mode.
        loss: outputs and targets -> mean loss, or one per example.
        inputs: of four examples, ``[4, ...]``.
        targets: of them.

    Returns:
        Those of a network of convolutions where nothing can be counted.
    """
    try:
        with undisturbed(network), torch.inference_mode(False):
            forward = _counted(partial(mean_cost, network, loss), inputs, targets)
            gradient = _counted(partial(_gradient, network, loss), inputs, targets)
            product = _counted(partial(_product, network, loss), inputs, targets)
    except (UserError, RuntimeError, NotImplementedError):
        return Prices()
    if not gradient.each > 0:
        return Prices()
    unit, parameters = gradient.each, list(trained_parameters(network).values())
    vector = BYTE * sum(p.numel() * p.element_size() for p in parameters)
    example, multiplied = _example_gradient(network, loss, inputs, targets, gradient)
    return Prices(
        forward.over(unit),
        gradient.over(unit),
        example.over(unit),
        product.over(unit),
        _CALL / unit,
        vector / unit,
        multiplied.over(unit),
        (_STEP + BYTE * _UPDATE * sum(p.numel() for p in parameters)) / unit,
        _FUSED_STEP / unit,
    )


def _gradient(network: nn.Module, loss: MeanLoss, batches: list[tuple[Tensor, Tensor]]) -> None:
    ((inputs, targets),) = batches
    with torch.enable_grad():
        cost = loss(outputs_of(network, inputs), targets).mean()
        gradient_of(cost, list(trained_parameters(network).values()))


def _product(
    network: nn.Module, loss: MeanLoss, batches: list[tuple[Tensor, Tensor]]
) -> Callable[[], object]:
    hessian = HessianProducts(network, loss, batches, None)
    vector = hessian.gradient
    return lambda: hessian @ vector


def _example_gradient(
    network: nn.Module, loss: MeanLoss, inputs: Tensor, targets: Tensor, gradient: Pass
) -> tuple[Pass, Pass]:
    """A gradient with its norm, and what its product with a vector adds. Of linear layers they are counted;
    of others, whose operations are those of many networks, in part."""
    inputs, targets = (torch.cat([part, part]) for part in (inputs, targets))
    linear = linear_layers(network) is not None
    direction = {name: p.detach() for name, p in trained_parameters(network).items()}

    def found(batches: list[tuple[Tensor, Tensor]], along: dict[str, Tensor] | None) -> None:
        example_gradients(network, of_each(loss), batches, along)

    try:
        with undisturbed(network), torch.inference_mode(False):
            alone = _counted(partial(found, along=None), inputs, targets, linear, len(WEIGHTS))
            both = _counted(partial(found, along=direction), inputs, targets, linear, len(WEIGHTS))
    except (UserError, RuntimeError, NotImplementedError):
        return Pass(gradient.fixed, _EACH * gradient.each), Pass()
    more = Pass(max(both.fixed - alone.fixed, 0.0), max(both.each - alone.each, 0.0))
    return alone if linear else Pass(alone.fixed, _EACH * gradient.each), more


# Counting


class _Counter(TorchDispatchMode):
    """Adds up what operations cost that are called inside."""

    def __init__(self, arithmetic: bool) -> None:
        super().__init__()
        self.total, self.arithmetic = 0.0, arithmetic

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        from torch.utils.flop_counter import flop_registry

        named = kwargs or {}
        found = func(*args, **named)
        if any(one.alias_info is not None and not one.alias_info.is_write for one in func._schema.returns):
            self.total += _VIEW
            return found
        self.total += OPERATION + BYTE * _bytes((args, named, found))
        count = flop_registry.get(func._overloadpacket) if self.arithmetic else None
        if count is not None:
            self.total += count(*args, **named, out_val=found)
        return found


def _bytes(values: Any) -> int:
    from torch.utils._pytree import tree_leaves

    return sum(t.numel() * t.element_size() for t in tree_leaves(values) if isinstance(t, Tensor))


def _counted(
    call: Callable[[list[tuple[Tensor, Tensor]]], object],
    inputs: Tensor,
    targets: Tensor,
    arithmetic: bool = True,
    fewest: int = 2,
) -> Pass:
    """What a call, or what it returns to be called, costs of the ``fewest`` examples and of twice as many."""
    found = []
    for count in (fewest, 2 * fewest):
        batches = [(inputs[:count], targets[:count])]
        with _Counter(arithmetic) as counter:
            later = call(batches)
        if callable(later):
            with _Counter(arithmetic) as counter:
                later()
        found.append(counter.total)
    each = (found[1] - found[0]) / fewest
    return Pass(max(found[0] - fewest * each, 0.0), each)
