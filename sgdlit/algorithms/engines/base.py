"""What takes the steps of a block: its inputs, its result, and what every engine is built from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sgdlit.data.loaders import Batch, Block
from sgdlit.objectives import ConstantStrength

if TYPE_CHECKING:
    from sgdlit.algorithms.update_rules import UpdateRule
    from sgdlit.training.single_run import SingleRun


class Member(NamedTuple):
    """A run with its own optimizer and schedule."""

    run: "SingleRun"
    optimizer: Optimizer
    scheduler: LRScheduler | None

    def rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def numbers(self, rule: "UpdateRule", start: int, count: int) -> dict[str, Tensor]:
        """What updates ``start`` to ``start + count − 1`` need, λ as ``reg_strength`` included.

        Each is float64 ``[count]``. The schedule is advanced by ``count`` steps.
        """
        constant = rule.constant and self.scheduler is None and type(self.run.strength) is ConstantStrength
        rows = []
        for step in range(start, start + (1 if constant else count)):
            row = rule.numbers(self.optimizer.param_groups[0], step)
            rows.append(row | {"reg_strength": self.run.strength(step, self.rate())})
            if self.scheduler is not None:
                self.optimizer._opt_called = True  # else torch takes the schedule to be ahead of the updates
                self.scheduler.step()
        columns = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}
        return {name: column.expand(count).contiguous() for name, column in columns.items()}


class Losses(NamedTuple):
    """What each step of a block had as loss before its update, ``[steps, members]``, on the device.

    ``cost`` is C of the batch, ``loss`` the modified loss C + λ/4 ‖∇C‖².
    """

    cost: Tensor
    loss: Tensor


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
        trainer: of the run.
    """

    def __init__(self, members: Sequence[Member], where: slice, trainer: Trainer) -> None:
        self.members, self.where, self.precision = list(members), where, trainer.precision_plugin

    @abstractmethod
    def run(self, block: Block) -> Losses:
        """Update the parameters ``len(block)`` times."""

    def observe(self, block: Block) -> Observation:
        """What the members are like before the first step of the block; nothing is changed."""
        inputs, targets = next(self.batches(block))
        seen = [
            member.run.observe(x, y, member.run.strength(block.start, member.rate()))
            for member, x, y in zip(self.members, inputs, targets, strict=True)
        ]
        return joined(seen)

    def batches(self, block: Block) -> Iterator[Batch]:
        """What the members see at each step of the block: ``[K, B, ...]``, in the precision of the run."""
        return map(self.precision.convert_input, block.steps(self.where))


def joined(parts: Sequence[Observation]) -> Observation:
    """One observation of several members, from those of each or of some."""

    def join(values: Sequence[Tensor | None]) -> Tensor | None:
        return None if values[0] is None else torch.cat([v.reshape(-1) for v in values])

    return Observation(*map(join, zip(*parts, strict=True)))
