"""All the engines of a run: which there are, and which members each takes."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from torch.fx import GraphModule

from sgdlit.algorithms.engines import fused, rank_one, stacked
from sgdlit.algorithms.engines.base import Engine, Losses, Member, Observation, joined
from sgdlit.algorithms.engines.captured import CapturedStep
from sgdlit.algorithms.engines.fused import FusedEngine
from sgdlit.algorithms.engines.loop import LoopEngine
from sgdlit.algorithms.engines.rank_one import RankOneEngine
from sgdlit.algorithms.engines.stacked import StackedEngine
from sgdlit.data.loaders import Block
from sgdlit.foundations import native
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.side_by_side import SideBySide

EngineName = Literal["auto", "fused", "rank_one", "stacked", "compiled", "loop"]

_WORTH_BUILDING = 5000  # updates over which the C compiler's third of a second is earned back


def check_engine(name: EngineName, members: Sequence[Member]) -> None:
    """Refuse an engine that was asked for by name, as far as that can be said before there is a batch.

    Raises:
        UserError: saying why.
    """
    reason = None
    if name in ("fused", "rank_one", "stacked", "compiled"):
        reason = stacked.refusal(members)
    if reason is None and name in ("fused", "rank_one"):
        reason = rank_one.refusal(members)
    if reason is not None:
        raise UserError(f"model.engine: {name} is not possible: {reason}; allowed: auto")


class Unfit(Exception):
    """An engine cannot take these runs, for the reason that it says."""


class Crew:
    """The engines that take the blocks of a run, each with some of its members.

    On a CPU, engines of one member each work side by side, one thread each.

    Args:
        members: the runs.
        name: the kind of engine, or ``auto``.
        trainer: of the run.
        block: the first to be taken.
        before: what took the run up to here, so that it goes on with the same arithmetic; None at its
            beginning.

    Raises:
        UserError: the kind that was asked for cannot take these runs.
    """

    def __init__(
        self,
        members: Sequence[Member],
        name: EngineName,
        trainer: Trainer,
        block: Block,
        before: dict[str, Any] | None = None,
    ) -> None:
        self.members, self.trainer, self.block = list(members), trainer, block
        self.group_size = min((before or {}).get("group_size", len(members)), len(members))
        self.note: str | None = None
        self.name, self.engines = self._choose(name, (before or {}).get("engine"))
        self._threads = SideBySide(
            len(self.engines), trainer.strategy.root_device, trainer.precision_plugin.forward_context
        )

    def description(self) -> dict[str, Any]:
        """What a checkpoint has to know for a resumed run to end with the same bits."""
        return {"engine": self.name, "group_size": self.group_size}

    def run(self, block: Block) -> Losses:
        """Take the block's steps: losses ``[steps, members]``."""
        parts = self._threads.map(lambda engine: engine.run(block), self.engines)
        return Losses(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))

    def observe(self, block: Block) -> Observation:
        """What the members are like before the block: ``[members]`` each."""
        return joined(self._threads.map(lambda engine: engine.observe(block), self.engines))

    def _choose(self, name: EngineName, before: EngineName | None) -> tuple[EngineName, list[Engine]]:
        """The one asked for; else the one that was there before, or the fastest that fits."""
        makers: dict[EngineName, Callable[[], list[Engine]]] = {
            "fused": self._fused,
            "rank_one": self._rank_one,
            "stacked": self._stacked,
            "compiled": lambda: self._stacked(torch.compile),
            "loop": self._loop,
        }
        if name != "auto":
            try:
                return name, makers[name]()
            except Unfit as unfit:
                raise UserError(f"model.engine: {name} is not possible: {unfit}; allowed: auto") from unfit
        for kind in (before, "fused", "rank_one", "stacked"):
            if kind is not None and (kind == before or not self._too_dear(kind)):
                try:
                    return kind, makers[kind]()
                except Unfit as unfit:
                    if kind == "stacked" and len(self.members) > 1:
                        self.note = f"members are trained one at a time: {unfit}"
        return "loop", self._loop()

    def _too_dear(self, kind: EngineName) -> bool:
        """Whether an engine would cost more than it saves."""
        network = self.members[0].run.network
        parameter = next(network.parameters())
        if kind == "fused":
            real = fused.REALS.get(parameter.dtype, "float")
            updates = len(self.members) * (self.trainer.estimated_stepping_batches - self.block.start)
            return not native.is_built("steps", f"REAL={real}") and updates < _WORTH_BUILDING
        # Convolutions of several runs become grouped ones, which lose on a CPU.
        return kind == "stacked" and parameter.device.type == "cpu" and stacked.has_convolutions(network)

    def _fused(self) -> list[Engine]:
        batch = self._closed_form()
        self._require(fused.refusal(self.members, batch[0]))
        return self._one_each(FusedEngine)

    def _rank_one(self) -> list[Engine]:
        self._closed_form()
        return [RankOneEngine(self.members, slice(0, len(self.members)), self.trainer, self._play())]

    def _closed_form(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of runs whose gradients have a closed form."""
        self._require(stacked.refusal(self.members) or rank_one.refusal(self.members))
        batch = self.block.batch(0, slice(0, len(self.members)))
        self._require(rank_one.takes(*batch))
        return batch

    def _play(self) -> Callable[[GraphModule], Any]:
        """How a recorded step is called: on a GPU by a CUDA graph."""
        on_gpu = self.trainer.strategy.root_device.type == "cuda"
        return CapturedStep if on_gpu else (lambda graph: graph)

    def _stacked(self, finish: Callable[[GraphModule], Any] | None = None) -> list[Engine]:
        self._require(stacked.refusal(self.members))
        while True:
            try:
                return [self._prepared(group, finish or self._play()) for group in self._groups()]
            except torch.OutOfMemoryError as error:
                if self.group_size == 1:
                    raise Unfit(f"one member alone needs too much memory ({error})") from error
                self.group_size = -(-self.group_size // 2)
                torch.cuda.empty_cache()

    def _groups(self) -> list[slice]:
        """The members in groups of equal size, but for the last."""
        count = len(self.members)
        return [slice(k, min(k + self.group_size, count)) for k in range(0, count, self.group_size)]

    def _prepared(self, group: slice, finish: Callable[[GraphModule], Any]) -> Engine:
        """A stacked engine that has recorded its first step, which shows whether the memory holds it."""
        engine = StackedEngine(self.members[group], group, self.trainer, finish)
        try:
            engine.prepare(self.block)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a network raises that cannot be recorded
            network, why = type(self.members[0].run.network).__name__, str(error).split("\n")[0]
            raise Unfit(f"{network} cannot be recorded as a graph ({type(error).__name__}: {why})") from error
        return engine

    def _loop(self) -> list[Engine]:
        return self._one_each(LoopEngine)

    def _one_each(self, kind: type[Engine]) -> list[Engine]:
        return [kind([member], slice(k, k + 1), self.trainer) for k, member in enumerate(self.members)]

    @staticmethod
    def _require(reason: str | None) -> None:
        if reason is not None:
            raise Unfit(reason)
