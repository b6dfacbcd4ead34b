"""The steps of linear networks in C, many in one call.

Each matrix is passed over once per step; those of matrix sensing less often, see
:mod:`sgdlit.algorithms.engines.stretch`. See ``sgdlit/foundations/native/steps.c`` for what is computed;
``rank_one`` is the same in tensor operations, for want of a compiler.
"""

from collections.abc import Sequence
from ctypes import c_double, c_int, c_int64, c_void_p

import torch
from torch import Tensor

from sgdlit.algorithms.engines.base import Engine, Losses, Machine
from sgdlit.algorithms.engines.stretch import Stretches, pointer
from sgdlit.algorithms.engines.support import closed_form, is_sensing
from sgdlit.algorithms.member import Member
from sgdlit.algorithms.rules import rule_of
from sgdlit.data.batches import Block
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
        costs = torch.empty(len(block), dtype=self.parameters[0].dtype)
        losses = torch.empty_like(costs) if self.form == "diagonal" else costs
        stretches, done = self._stretches(block), 0
        if stretches is not None:
            stretches.begin(block.start)
        for piece in block.pieces(self.where.start):
            inputs, targets = (t.contiguous() for t in self.precision.convert_input(piece))
            part = slice(done, done + len(inputs))
            rates, shrunk, strengths = given["lr"][part], decays[part], given["reg_strength"][part]
            if stretches is not None:
                stretches.take(block.start + done, (inputs, targets), rates, shrunk, costs[part])
            elif self.form == "diagonal":
                self._diagonal(inputs, targets, rates, shrunk, strengths, costs[part], losses[part])
            else:
                self._chain(inputs, targets, rates, shrunk, costs[part])
            done = part.stop
        if stretches is not None:
            stretches.end()
        return Losses(costs.unsqueeze(1), losses.unsqueeze(1))

    def _stretches(self, block: Block) -> Stretches | None:
        """What puts off the updates of two matrices of matrix sensing; None for other networks."""
        member = self.members[0]
        if self.stretches is None and is_sensing(member.network):
            size = block.members[self.where.start].batch_size
            parameters, factor = list(member.network.parameters()), member.gradient_factor(size) / size
            self.stretches = Stretches(parameters, member.optimizer, self.library, size, factor)
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


def _require_memory(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for a step of the network")
