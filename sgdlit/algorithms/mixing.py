"""What runs that touch each other exchange: averages of their parameters, at some steps.

A mixing replaces the parameters w_j of K runs by Σ_k P_jk w_k after every H-th step. ``Mixing.averaging`` is
local SGD: every run goes on from the mean. A matrix P of a graph is decentralized SGD.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Block
from sgdlit.foundations.errors import UserError


class Mixing:
    """w_j ← Σ_k P_jk w_k after every ``every``-th step.

    Args:
        matrix: P, ``[K, K]``; each of its lines sums to 1.
        every: H, steps between two exchanges.

    Raises:
        UserError: a matrix that is not square, or whose lines do not sum to 1; H below 1.
    """

    def __init__(self, matrix: Tensor, every: int = 1) -> None:
        square = matrix.dim() == 2 and matrix.shape[0] == matrix.shape[1]
        if not square or not torch.allclose(matrix.sum(1), torch.ones(len(matrix)).to(matrix)):
            raise UserError(
                f"mixing.matrix: shape {tuple(matrix.shape)}; allowed: square, with lines that sum to 1"
            )
        if every < 1:
            raise UserError(f"mixing.every: {every} is not possible; allowed: 1 or more")
        self.matrix, self.every = matrix, every

    @classmethod
    def averaging(cls, members: int, every: int = 1) -> "Mixing":
        """Everyone goes on from the mean of all.

        Raises:
            UserError: fewer than one member.
        """
        if members < 1:
            raise UserError(f"mixing.members: {members} is not possible; allowed: 1 or more")
        return cls(torch.full((members, members), 1 / members, dtype=torch.float64), every)

    def parts(self, block: Block) -> Iterator[Block]:
        """The block, cut where an exchange is due."""
        step, end = block.start, block.start + len(block)
        while step < end:
            due = min(end, (step // self.every + 1) * self.every)
            yield Block(step, due - step, block.members)
            step = due

    @torch.no_grad()
    def after(self, step: int, networks: Sequence[nn.Module]) -> None:
        """Exchange, if that is due after ``step`` updates. Parameters stay where they lie."""
        if step % self.every:
            return
        for own in zip(*(network.parameters() for network in networks), strict=True):
            held = torch.stack([p.detach() for p in own])
            mixed = torch.tensordot(self.matrix.to(held), held, 1)
            for p, new in zip(own, mixed, strict=True):
                p.copy_(new)
