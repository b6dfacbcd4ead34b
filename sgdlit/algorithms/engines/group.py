"""All the engines of some runs: which there are, and which members each takes."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from sgdlit.algorithms.engines.base import (
    NO_LOOK,
    Engine,
    Look,
    Losses,
    Machine,
    Observation,
    in_parts,
    joined,
)
from sgdlit.algorithms.engines.support import SUPPORT, different_shapes
from sgdlit.algorithms.member import Member
from sgdlit.algorithms.network_draws import draws, refuse_impure_forward
from sgdlit.data.batches import Block
from sgdlit.foundations import native
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.side_by_side import SideBySide
from sgdlit.objectives.step_shown import Kind

if TYPE_CHECKING:
    from sgdlit.algorithms.mixing import Mixing

EngineName = Literal["auto", "fused", "put_off", "rank_one", "stacked", "compiled", "loop"]

# From how many parameters times steps, or times examples, on a call outlasts the Python around it.
_STEPS_WORTH_THREADS, _EXAMPLES_WORTH_THREADS = 2**18, 2**20
_FASTEST_FIRST: tuple[EngineName, ...] = ("fused", "put_off", "rank_one", "stacked")


def check_engine(name: EngineName, members: Sequence[Member], mixed: bool = False) -> None:
    """Refuse an engine that was asked for by name, as far as that can be said before there is a batch.

    Raises:
        UserError: saying why.
    """
    reason = SUPPORT[name].obstacle(members, mixed) if name != "auto" else None
    if reason is not None:
        raise engine_not_possible(name, reason)


def engine_not_possible(name: str, reason: object) -> UserError:
    """What is said of an engine that was asked for by name."""
    return UserError(f"model.engine: {name} is not possible: {reason}; allowed: auto")


def likely_engine(members: Sequence[Member], inputs: Tensor, targets: Tensor) -> EngineName:
    """What ``auto`` takes, as far as that can be said before a step is recorded or code is compiled.

    Args:
        members: the runs.
        inputs: of a step of one of them, ``[B, ...]``.
        targets: as many.
    """
    for name in _FASTEST_FIRST:
        support = SUPPORT[name]
        fits = not _is_too_dear(name, members) and support.obstacle(members) is None
        if fits and support.obstacle_in(members, inputs.unsqueeze(0), targets.unsqueeze(0)) is None:
            return name
    return "loop"


class Unfit(Exception):
    """An engine cannot take these runs, for the reason that it says."""


class EngineGroup:
    """The engines that take the blocks of some runs, each with some of the members.

    They are chosen when the first block comes. On a CPU, engines of one member each work side by side, one
    thread each.

    Args:
        members: the runs.
        engine: its kind, or ``auto``.
        machine: where the steps are computed.
        before: what took the runs up to here, so that they go on with the same arithmetic; None at their
            beginning.
        mixing: what the runs exchange; None where they do not touch each other.

    Raises:
        UserError: no members, one of them twice, or not as many, or of one shape, as the mixing asks for;
            when a block comes, the kind that was asked for cannot take these runs, or the block is not that
            of as many members.
    """

    def __init__(
        self,
        members: Sequence[Member],
        engine: EngineName = "auto",
        machine: Machine | None = None,
        before: dict[str, Any] | None = None,
        mixing: "Mixing | None" = None,
    ) -> None:
        _check_members(members, mixing)
        self.members, self.machine, self.mixing = list(members), machine or Machine(), mixing
        self.name, self._before = engine, before or {}
        self.group_size = min(self._before.get("group_size", len(members)), len(members))
        self.note: str | None = None
        self.engines: list[Engine] = []
        self._observer: Engine | None = None  # of all members at once, where each has an engine of its own
        self._threads: SideBySide | None = None

    def description(self) -> dict[str, Any]:
        """What a checkpoint has to know for a resumed run to end with the same bits."""
        return {"engine": self.name, "group_size": self.group_size} if self.engines else self._before

    def run(self, block: Block, look: Look = NO_LOOK) -> Losses:
        """Take the block's steps: losses ``[steps, members]``.

        Args:
            block: some steps.
            look: called after some of them with the number of updates made; nothing that is computed depends
                on it.
        """
        mixing, networks = self.mixing, [member.network for member in self.members]
        if mixing is not None:
            mixing.begin(networks)
            ends = {*mixing.due_in(block), *look.steps}
            return in_parts(block, ends, self._run, look, lambda step: mixing.after(step, networks))
        if not look.steps and not look.shown_steps:
            return self._run(block)
        self._side_by_side(block)  # chooses the engines
        if len(self.engines) == 1:
            return self.engines[0].run_looking(block, look)
        return in_parts(block, look.steps, self._run, look)

    def _run(self, block: Block) -> Losses:
        side_by_side = self._side_by_side(block)
        at_once = self._deep(block)
        if self.name == "fused":  # all steps in one call
            at_once = self._parameters * len(block) >= _STEPS_WORTH_THREADS
        parts = side_by_side.map(lambda engine: engine.run(block), self.engines, at_once)
        return Losses(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))

    def shows(self, block: Block) -> Kind | None:
        """What ``Look.shown`` is called with, from a block on; None where it is not."""
        self._side_by_side(block)
        alone = self.mixing is None and len(self.engines) == 1
        return self.engines[0].shows(block) if alone else None

    def observe(self, block: Block) -> Observation:
        """What the members are like before the block: ``[members]`` each."""
        side_by_side = self._side_by_side(block)
        if self._observer is not None:
            return self._observer.observe(block)
        at_once = self._deep(block)
        return joined(side_by_side.map(lambda engine: engine.observe(block), self.engines, at_once))

    @cached_property
    def _parameters(self) -> int:
        return sum(p.numel() for p in self.members[0].network.parameters())

    def _deep(self, block: Block) -> bool:
        """Whether the gradient of a batch outlasts the Python around it; a convolution always does."""
        if len(self.engines) == 1:
            return True
        numbers = self._parameters * block.members[0].batch_size
        return numbers >= _EXAMPLES_WORTH_THREADS or _has_convolutions(self.members[0].network)

    def _side_by_side(self, block: Block) -> SideBySide:
        """What calls the engines, which are chosen first if this is the first block."""
        if len(block.members) != len(self.members):
            raise UserError(
                f"block.members: {len(block.members)} Batches for {len(self.members)} members; allowed: one "
                "for each member"
            )
        if self._threads is None:
            self.name, self.engines = self._choose(block)
            context = self.machine.precision.forward_context
            self._threads = SideBySide(self._at_once(block), self.machine.device, context)
        return self._threads

    def _at_once(self, block: Block) -> int:
        """How many engines work side by side: one where networks draw, from generators that threads share."""
        if self.name == "loop" and len(self.engines) > 1:
            inputs, _ = self.machine.precision.convert_input(block.batch(0, slice(0, 1)))
            with self.machine.precision.forward_context():
                drawing = draws(self.members[0], inputs[0])
            for engine in self.engines:
                engine.draws = drawing
            return 1 if drawing else len(self.engines)
        return len(self.engines)

    # Which engines

    def _choose(self, block: Block) -> tuple[EngineName, list[Engine]]:
        """The one asked for; else the one that was there before, or the fastest that fits."""
        if self.name != "auto":
            try:
                return self.name, self._make(self.name, block)
            except Unfit as unfit:
                raise engine_not_possible(self.name, unfit) from unfit
        before: EngineName | None = self._before.get("engine")
        for name in (before, *_FASTEST_FIRST):
            dear = name is not None and _is_too_dear(name, self.members)
            if name is not None and (name == before or not dear):
                try:
                    return name, self._make(name, block)
                except Unfit as unfit:
                    if name == "stacked" and len(self.members) > 1:
                        self.note = f"members are trained one at a time: {unfit}"
        return "loop", self._make("loop", block)

    def _make(self, name: str, block: Block) -> list[Engine]:
        """The engines of one kind.

        Raises:
            Unfit: they cannot take these runs.
        """
        support = SUPPORT[name]
        reason = support.obstacle(self.members, self.machine.mixed)
        if reason is None and support.alike and any(batches.varies for batches in block.members):
            reason = "steps see different numbers of examples"
        if reason is None and support.forms is not None:
            everyone = slice(0, len(self.members))
            reason = support.obstacle_in(self.members, *block.batch(0, everyone))
        if reason is not None:
            raise Unfit(reason)
        makers: dict[str, Callable[[], list[Engine]]] = {
            "fused": self._fused,
            "put_off": self._put_off,
            "rank_one": self._rank_one,
            "stacked": lambda: self._stacked(block, self._player()),
            "compiled": lambda: self._stacked(block, torch.compile),
            "loop": self._loop,
        }
        return makers[name]()

    # Each kind is loaded when it is chosen.

    def _loop(self) -> list[Engine]:
        from sgdlit.algorithms.engines.loop import LoopEngine

        return self._one_each(LoopEngine)

    def _fused(self) -> list[Engine]:
        from sgdlit.algorithms.engines.fused import FusedEngine

        if len(self.members) > 1 and different_shapes(self.members) is None:
            self._observer = self._rank_one()[0]  # first, as it moves the parameters
        try:
            return self._one_each(FusedEngine)
        except (native.NotBuilt, OSError) as error:
            self._observer = None
            raise Unfit(str(error)) from error

    def _put_off(self) -> list[Engine]:
        from sgdlit.algorithms.engines.put_off import PutOffEngine

        return self._one_each(PutOffEngine)

    def _rank_one(self) -> list[Engine]:
        from sgdlit.algorithms.engines.rank_one import RankOneEngine

        return [RankOneEngine(self.members, slice(0, len(self.members)), self.machine, self._player())]

    def _player(self) -> Callable[[Any], Any] | None:
        """What a recorded step is called by, if not as it is: on a GPU by a CUDA graph."""
        if self.machine.device.type != "cuda":
            return None
        from sgdlit.algorithms.engines.captured import CapturedStep

        return CapturedStep

    def _stacked(self, block: Block, finish: Callable[[Any], Any] | None) -> list[Engine]:
        """Engines of as many members each as the memory holds."""
        while True:
            try:
                return [self._prepared(group, block, finish) for group in self._groups()]
            except torch.OutOfMemoryError as error:
                if self.group_size == 1:
                    raise Unfit(f"one member alone needs too much memory ({error})") from error
                self.group_size = -(-self.group_size // 2)
                torch.cuda.empty_cache()

    def _groups(self) -> list[slice]:
        """The members in groups of equal size, but for the last."""
        count = len(self.members)
        return [slice(k, min(k + self.group_size, count)) for k in range(0, count, self.group_size)]

    def _prepared(self, group: slice, block: Block, finish: Callable[[Any], Any] | None) -> Engine:
        """A stacked engine that has recorded its first step, which shows whether the memory holds it."""
        from sgdlit.algorithms.engines.stacked import StackedEngine

        optimizers = [member.optimizer for member in self.members[group]]
        before = [{p: dict(state) for p, state in optimizer.state.items()} for optimizer in optimizers]
        engine = StackedEngine(self.members[group], group, self.machine, finish)
        try:
            with refuse_impure_forward(engine.first.network):
                engine.prepare(block)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a network raises that cannot be recorded
            for optimizer, state in zip(optimizers, before, strict=True):
                optimizer.state.clear()
                optimizer.state.update(state)
            network, why = type(self.members[0].network).__name__, str(error).split("\n")[0]
            raise Unfit(f"{network} cannot be recorded as a graph ({type(error).__name__}: {why})") from error
        return engine

    def _one_each(self, kind: type[Engine]) -> list[Engine]:
        return [kind([member], slice(k, k + 1), self.machine) for k, member in enumerate(self.members)]


def _check_members(members: Sequence[Member], mixing: "Mixing | None") -> None:
    """Refuse what no engine takes, and what cannot be mixed."""
    if not members:
        raise UserError("members: none; allowed: one or more")
    if len({id(member.network) for member in members}) < len(members):
        raise UserError("members: one of them, or its network, is there twice; allowed: each once")
    if mixing is None:
        return
    mixing.check(members)
    reason = different_shapes(members)
    if reason is not None:
        raise UserError(f"mixing: not possible: {reason}; allowed: networks of one shape")


def _is_too_dear(name: str, members: Sequence[Member]) -> bool:
    """Whether an engine would cost more than it saves."""
    if name == "put_off":
        return len(members) > 1  # rank_one takes all of them at once
    network = members[0].network
    # Convolutions of several runs become grouped ones, which lose on a CPU.
    return (
        name == "stacked" and next(network.parameters()).device.type == "cpu" and _has_convolutions(network)
    )


def _has_convolutions(network: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.conv._ConvNd) for module in network.modules())
