"""The steps of linear networks in C, many in one call, each matrix passed over once per step.

See ``sgdlit/foundations/native/steps.c`` for what is computed; ``rank_one`` is the same in tensor operations,
for want of a compiler.
"""

from collections.abc import Sequence
from ctypes import c_double, c_int, c_int64, c_void_p

import torch
from torch import Tensor

from sgdlit.algorithms.engines.base import Engine, Losses, Machine
from sgdlit.algorithms.engines.support import closed_form
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

    def run(self, block: Block) -> Losses:
        given = self.members[0].hyperparameters(self.rule, block.start, len(block))
        decays = given["lr"] * given["weight_decay"]
        costs = torch.empty(len(block), dtype=self.parameters[0].dtype)
        losses = torch.empty_like(costs) if self.form == "diagonal" else costs
        done = 0
        for piece in block.pieces(self.where.start):
            inputs, targets = (t.contiguous() for t in self.precision.convert_input(piece))
            part = slice(done, done + len(inputs))
            rates, shrunk, strengths = given["lr"][part], decays[part], given["reg_strength"][part]
            if self.form == "diagonal":
                failed = self._diagonal(inputs, targets, rates, shrunk, strengths, costs[part], losses[part])
            else:
                failed = self._chain(inputs, targets, rates, shrunk, costs[part])
            if failed:
                raise MemoryError("no memory for a step of the network")
            done = part.stop
        return Losses(costs.unsqueeze(1), losses.unsqueeze(1))

    def _chain(self, inputs: Tensor, targets: Tensor, rates: Tensor, decays: Tensor, costs: Tensor) -> int:
        weights = self.parameters
        widths = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
        return self.library.chain_steps(
            c_int64(len(weights)),
            (c_int64 * len(widths))(*widths),
            (c_void_p * len(weights))(*(weight.data_ptr() for weight in weights)),
            *map(_pointer, (inputs, targets, rates, decays, costs)),
            c_int64(len(inputs)),
            c_int(self.form == "bilinear"),
        )

    def _diagonal(
        self,
        inputs: Tensor,
        targets: Tensor,
        rates: Tensor,
        decays: Tensor,
        strengths: Tensor,
        costs: Tensor,
        losses: Tensor,
    ) -> int:
        steps, size, d = inputs.shape
        return self.library.diagonal_steps(
            c_int64(d),
            c_int64(size),
            *map(_pointer, (*self.parameters, inputs, targets, rates, decays, strengths)),
            c_double(self.members[0].gradient_factor(size)),
            *map(_pointer, (costs, losses)),
            c_int64(steps),
        )


def _pointer(tensor: Tensor) -> c_void_p:
    return c_void_p(tensor.data_ptr())
