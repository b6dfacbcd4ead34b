"""The steps of linear networks in C, many in one call.

Each matrix is passed over once per step; those of matrix sensing less often, see
:mod:`sgdlit.algorithms.engines.stretch`. See ``sgdlit/foundations/native/steps.c`` for what is computed;
``put_off`` and ``rank_one`` are the same in tensor operations, for want of a compiler.
"""

from collections.abc import Sequence
from ctypes import CDLL, Structure, byref, c_double, c_int, c_int64, c_void_p

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sgdlit.algorithms.engines.base import Engine, Losses, Machine
from sgdlit.algorithms.engines.stretch import Stretches
from sgdlit.algorithms.engines.support import closed_form, is_sensing
from sgdlit.algorithms.member import Member
from sgdlit.algorithms.rules import rule_of
from sgdlit.data.batches import Batch, Block
from sgdlit.foundations import native

REALS = {torch.float32: "float", torch.float64: "double"}


class FusedEngine(Engine):
    """Takes the steps of one run.

    Raises:
        native.NotBuilt: there is no library and none can be made.
    """

    def __init__(self, members: Sequence[Member], where: slice, machine: Machine) -> None:
        super().__init__(members, where, machine)
        network = members[0].network
        self.rule = rule_of([members[0].optimizer])
        self.parameters = [p.detach() for p in network.parameters()]
        self.library = native.library("steps", f"REAL={REALS[self.parameters[0].dtype]}")
        self.form = closed_form(network)
        self.stretches: Stretches | None = None  # where updates are put off

    def run(self, block: Block) -> Losses:
        given = self.members[0].hyperparameters(self.rule, block.start, len(block))
        decays = given["lr"] * given["weight_decay"]
        stretches = self._stretches(block)
        if stretches is not None:
            costs = stretches.run(block, self.where, self.precision, given["lr"], decays).unsqueeze(1)
            return Losses(costs, costs)
        costs, done = torch.empty(len(block), dtype=self.parameters[0].dtype), 0
        losses = torch.empty_like(costs) if self.form == "diagonal" else costs
        for piece in block.pieces(self.where.start):
            inputs, targets = (t.contiguous() for t in self.precision.convert_input(piece))
            part = slice(done, done + len(inputs))
            rates, shrunk, strengths = given["lr"][part], decays[part], given["reg_strength"][part]
            if self.form == "diagonal":
                self._diagonal(inputs, targets, rates, shrunk, strengths, costs[part], losses[part])
            else:
                self._chain(inputs, targets, rates, shrunk, costs[part])
            done = part.stop
        return Losses(costs.unsqueeze(1), losses.unsqueeze(1))

    def _stretches(self, block: Block) -> Stretches | None:
        """What puts off the updates of two matrices of matrix sensing; None for other networks."""
        member = self.members[0]
        if self.stretches is None and is_sensing(member.network):
            size = block.members[self.where.start].batch_size
            parameters, factor = list(member.network.parameters()), member.gradient_factor(size) / size
            self.stretches = CompiledStretches(parameters, member.optimizer, size, factor, self.library)
        return self.stretches

    def _chain(self, inputs: Tensor, targets: Tensor, rates: Tensor, decays: Tensor, costs: Tensor) -> None:
        weights = self.parameters
        widths = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
        failed = self.library.chain_steps(
            c_int64(len(weights)),
            (c_int64 * len(widths))(*widths),
            (c_void_p * len(weights))(*(weight.data_ptr() for weight in weights)),
            *map(pointer, (inputs, targets, rates, decays, costs)),
            c_int64(len(inputs)),
            c_int(self.form == "bilinear"),
        )
        _require_memory(failed)

    def _diagonal(
        self,
        inputs: Tensor,
        targets: Tensor,
        rates: Tensor,
        decays: Tensor,
        strengths: Tensor,
        costs: Tensor,
        losses: Tensor,
    ) -> None:
        steps, size, d = inputs.shape
        failed = self.library.diagonal_steps(
            c_int64(d),
            c_int64(size),
            *map(pointer, (*self.parameters, inputs, targets, rates, decays, strengths)),
            c_double(self.members[0].gradient_factor(size)),
            *map(pointer, (costs, losses)),
            c_int64(steps),
        )
        _require_memory(failed)


class _Run(Structure):
    """What the C code knows of a run, see ``Run`` there."""

    _fields_ = (
        ("sizes", c_int64 * 3),
        *((name, c_int64) for name in ("stretch", "batch", "rows")),
        *((name, c_void_p * 2) for name in ("w", "start", "delta", "x")),
        ("scratch", c_void_p),
        *((name, c_double) for name in ("factor", "lost")),
        ("held", c_int64),
    )


class CompiledStretches(Stretches):
    """Stretches in C.

    Args:
        parameters: see :class:`Stretches`, as ``optimizer``, ``batch_size`` and ``factor``.
        library: the compiled ``steps.c`` of their precision.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        optimizer: Optimizer,
        batch_size: int,
        factor: float,
        library: CDLL,
    ) -> None:
        super().__init__(parameters, optimizer, batch_size, factor)
        self.library = library
        self._scratch = max(self.weights, key=torch.numel).clone()
        self._run = _Run(
            (c_int64 * 3)(self.weights[0].shape[1], *(w.shape[0] for w in self.weights)),
            *(self.steps, batch_size, self.steps * batch_size),
            (c_void_p * 2)(*(w.data_ptr() for w in self.weights)),
            *(
                (c_void_p * 2)(*(own[name].data_ptr() for own in self.kept))
                for name in ("start", "deltas", "inputs")
            ),
            *(self._scratch.data_ptr(), factor, 0.0, 0),
        )

    @property
    def held(self) -> int:
        return self._run.held

    @held.setter
    def held(self, examples: int) -> None:
        self._run.held = examples

    @property
    def lost(self) -> float:
        return self._run.lost

    @lost.setter
    def lost(self, share: float) -> None:
        self._run.lost = share

    def enter(self) -> bool:
        return bool(self.library.sensing_enter(byref(self._run)))

    def take(self, step: int, batch: Batch, rates: Tensor, decays: Tensor, costs: Tensor) -> bool:
        of_steps = map(pointer, (*batch, rates, decays, costs))
        count = c_int64(len(rates))
        return not self.library.sensing_steps(byref(self._run), c_int64(step), *of_steps, count)

    def leave(self) -> None:
        self.library.sensing_leave(byref(self._run))


def pointer(tensor: Tensor) -> c_void_p:
    """Where the numbers of a contiguous tensor lie."""
    return c_void_p(tensor.data_ptr())


def _require_memory(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for a step of the network")
