"""All the engines of a run: which there are, and which members each takes."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from torch.fx import GraphModule

from sgdlit.data.loaders import Block
from sgdlit.errors import UserError
from sgdlit.training.engines import build, fused, rank_one, stacked
from sgdlit.training.engines.base import Engine, Losses, Member, Observation, joined
from sgdlit.training.engines.fused import FusedEngine
from sgdlit.training.engines.loop import LoopEngine
from sgdlit.training.engines.rank_one import RankOneEngine
from sgdlit.training.engines.stacked import StackedEngine

EngineName = Literal["auto", "fused", "rank_one", "stacked", "compiled", "loop"]

_WORTH_BUILDING = 5000  # updates over which the C compiler's third of a second is earned back


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

    Raises:
        UserError: the kind that was asked for cannot take these runs.
    """

    def __init__(self, members: Sequence[Member], name: EngineName, trainer: Trainer, block: Block) -> None:
        self.members, self.trainer, self.block = list(members), trainer, block
        self.note: str | None = None
        self.name, self.engines = self._choose(name)
        self._pool = _pool(len(self.engines), trainer)

    def run(self, block: Block) -> Losses:
        """Take the block's steps: losses ``[steps, members]``."""
        parts = self._each(lambda engine: engine.run(block))
        return Losses(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))

    def observe(self, block: Block) -> Observation:
        """What the members are like before the block: ``[members]`` each."""
        return joined(self._each(lambda engine: engine.observe(block)))

    def _each(self, work: Callable[[Engine], Any]) -> list[Any]:
        return list(self._pool.map(work, self.engines) if self._pool else map(work, self.engines))

    def _choose(self, name: EngineName) -> tuple[EngineName, list[Engine]]:
        """The first kind of engine that fits, from the fastest down, or the one that was asked for."""
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
        for kind in ("fused", "rank_one", "stacked"):
            if not self._too_dear(kind):
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
            return not build.is_built(real) and updates < _WORTH_BUILDING
        # Convolutions of several runs become grouped ones, which lose on a CPU.
        return kind == "stacked" and parameter.device.type == "cpu" and stacked.has_convolutions(network)

    def _fused(self) -> list[Engine]:
        batch = self._closed_form()
        self._require(fused.refusal(self.members, batch[0]))
        return self._one_each(FusedEngine)

    def _rank_one(self) -> list[Engine]:
        self._closed_form()
        return [RankOneEngine(self.members, slice(0, len(self.members)), self.trainer)]

    def _closed_form(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of runs whose gradients have a closed form."""
        self._require(stacked.refusal(self.members) or rank_one.refusal(self.members))
        batch = self.block.batch(0, slice(0, len(self.members)))
        self._require(rank_one.takes(*batch))
        return batch

    def _stacked(self, finish: Callable[[GraphModule], Any] = lambda graph: graph) -> list[Engine]:
        self._require(stacked.refusal(self.members))
        engine = StackedEngine(self.members, slice(0, len(self.members)), self.trainer, finish)
        try:
            engine.prepare(self.block)
        except Exception as error:  # whatever a network raises that cannot be recorded
            network, why = type(self.members[0].run.network).__name__, str(error).split("\n")[0]
            raise Unfit(f"{network} cannot be recorded as a graph ({type(error).__name__}: {why})") from error
        return [engine]

    def _loop(self) -> list[Engine]:
        return self._one_each(LoopEngine)

    def _one_each(self, kind: type[Engine]) -> list[Engine]:
        return [kind([member], slice(k, k + 1), self.trainer) for k, member in enumerate(self.members)]

    @staticmethod
    def _require(reason: str | None) -> None:
        if reason is not None:
            raise Unfit(reason)


def _pool(engines: int, trainer: Trainer) -> ThreadPoolExecutor | None:
    """Threads for several engines on a CPU, each of which leaves the others their cores."""
    workers = min(engines, torch.get_num_threads())
    if workers == 1 or trainer.strategy.root_device.type != "cpu":
        return None
    return ThreadPoolExecutor(workers, "engine", initializer=lambda: torch.set_num_threads(1))
