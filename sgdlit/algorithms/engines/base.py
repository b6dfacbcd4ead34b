"""What every engine is built from: where it computes, what it takes, what it gives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sgdlit.algorithms.member import Member
from sgdlit.algorithms.network_draws import draws_of_step
from sgdlit.data.batches import Batch, Block
from sgdlit.objectives import frozen_statistics
from sgdlit.objectives.penalty import length
from sgdlit.objectives.step_shown import Kind, Shown


class Precision(Protocol):
    """In which precision batches come and networks compute; Lightning's precision plugins are such."""

    def convert_input(self, data: Any) -> Any:
        """A batch in the precision of the run."""

    def forward_context(self) -> AbstractContextManager:
        """Entered around whatever a network computes."""


class AsGiven:
    """The precision of networks and batches as they are."""

    def convert_input(self, data: Any) -> Any:
        return data

    def forward_context(self) -> AbstractContextManager:
        return nullcontext()


@dataclass(frozen=True)
class Machine:
    """Where and how steps are computed.

    Args:
        device: of parameters and batches.
        precision: of the run.
        mixed: whether networks compute in another precision than that of their parameters.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = field(default_factory=AsGiven)
    mixed: bool = False


class Losses(NamedTuple):
    """What each step of a block had as loss before its update, ``[steps, members]``, on the device.

    ``cost`` is C of the batch, ``loss`` the modified loss.
    """

    cost: Tensor
    loss: Tensor


class Look(NamedTuple):
    """What is called while a block is taken.

    Attributes:
        steps: numbers of updates after which ``call`` is called.
        call: with that number; it sees the parameters, and no more.
        shown_steps: numbers of updates before steps that ``shown`` looks at, where the engines show any.
        shown: called with that number and what the step's own backward pass shows.
    """

    steps: Collection[int] = ()
    call: Callable[[int], None] = lambda _: None
    shown_steps: Collection[int] = ()
    shown: Callable[[int, Shown], None] = lambda *_: None


NO_LOOK = Look()


class Observation(NamedTuple):
    """What runs are like before a step, ``[members]`` each.

    ``squared_norm`` is ‖∇C‖² over the batches of the penalty, ``gradient_norm`` that of what the optimizer
    receives, ``accuracy`` None where nothing is classified.
    """

    cost: Tensor
    squared_norm: Tensor
    gradient_norm: Tensor
    accuracy: Tensor | None


class Engine(ABC):
    """Takes the steps of blocks for some members of a run.

    Args:
        members: the runs.
        where: which of the block's members they are.
        machine: where the steps are computed.
    """

    draws: bool = False
    """Whether the networks may draw random numbers: threads that draw would disturb each other."""

    def __init__(self, members: Sequence[Member], where: slice, machine: Machine) -> None:
        self.members, self.where, self.precision = list(members), where, machine.precision

    @abstractmethod
    def run(self, block: Block) -> Losses:
        """Update the parameters ``len(block)`` times."""

    def shows(self, block: Block) -> Kind | None:
        """What its steps, from those of a block on, can show."""
        return None

    def run_looking(self, block: Block, look: Look) -> Losses:
        """As ``run``, with a look after some of the updates: here, the block is cut there."""
        return in_parts(block, look.steps, self.run, look)

    def observe(self, block: Block) -> Observation:
        """What the members are like before the first step of the block; nothing is changed."""
        inputs, targets = next(self.batches(block.first))
        found = []
        for member, x, y in zip(self.members, inputs, targets, strict=True):
            with self.drawing(member, block.start):
                found.append(observation(member, x, y, block.start))
        return joined(found)

    def drawing(self, member: Member, step: int) -> AbstractContextManager:
        """Entered around what a network computes at a step."""
        return draws_of_step(member, step) if self.draws else nullcontext()

    def batches(self, block: Block) -> Iterator[Batch]:
        """What the members see at each step of the block: ``[K, B, ...]``, in the precision of the run."""
        return map(self.precision.convert_input, block.steps(self.where))


def in_parts(
    block: Block,
    ends: Iterable[int],
    run: Callable[[Block], Losses],
    look: Look = NO_LOOK,
    after: Callable[[int], None] = lambda _: None,
) -> Losses:
    """A block that is taken in parts.

    Args:
        block: all of it.
        ends: updates after which a part ends.
        run: takes a part.
        look: called after each part, where it asks to be.
        after: called after each part, before that.
    """
    found = []
    for part in block.cut(ends):
        found.append(run(part))
        after(part.end)
        if part.end in look.steps:
            look.call(part.end)
    return Losses(*(torch.cat(own) for own in zip(*found, strict=True)))


def observation(member: Member, inputs: Tensor, targets: Tensor, step: int) -> Observation:
    """What a batch says about a run as it is, ``[]`` each; nothing is changed."""
    network, loss, objective = member.network, member.loss, member.objective
    inputs = member.in_memory_format(inputs)
    trainable = [p for p in network.parameters() if p.requires_grad]
    with frozen_statistics(network), torch.enable_grad():
        found = member.evaluate(inputs, targets, step, keep=False, measure=True)
        gradient = torch.autograd.grad(found.loss, trainable, materialize_grads=True)
    norm, squared_norm = length(list(gradient)), found.squared_norm
    if squared_norm is None:
        own = objective.penalty_batch_size is not None
        squared_norm = objective.measure(network, loss, inputs, targets) if own else norm.square()
    correct = loss.correct(found.outputs, targets)
    accuracy = None if correct is None else correct.float().mean()
    return Observation(found.cost, squared_norm, member.gradient_factor(len(inputs)) * norm, accuracy)


def joined(parts: Sequence[Observation]) -> Observation:
    """One observation of several members, from those of each or of some."""

    def join(values: Sequence[Tensor | None]) -> Tensor | None:
        known = [v.reshape(-1) for v in values if v is not None]
        return torch.cat(known) if known else None

    return Observation(*map(join, zip(*parts, strict=True)))  # type: ignore[arg-type]
