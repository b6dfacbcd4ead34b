"""C_reg: a quarter of the mean squared norm of minibatch gradients."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.errors import UserError
from sgdlit.measures.measure import Measure, RunAtStep, Values, require_positive
from sgdlit.objectives import Loss, frozen_statistics
from sgdlit.objectives.penalty import c_reg_of, squared_gradient_norm


def c_reg(network: nn.Module, loss: Loss, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """C_reg = 1/(4m) Σ_k ‖∇Ĉ_k‖², a scalar (Smith et al. 2021, 2101.12176, section 2.3).

    A batch that is smaller than the first is left out: its gradient is noisier, so it would not count as one
    of m. In expectation over partitions the others give equation 22 of the paper.

    Args:
        network: its parameters that require a gradient are what ∇ differentiates by; nothing of it changes.
        loss: Ĉ_k is its mean over batch k.
        batches: inputs ``[B, ...]`` and targets ``[B, ...]`` of each of the m minibatches, at least one.
    """
    norms, size = [], None
    with frozen_statistics(network):
        for inputs, targets in batches:
            size = len(inputs) if size is None else size
            if len(inputs) == size:
                norms.append(squared_gradient_norm(network, loss, inputs, targets).double())
    return c_reg_of(torch.stack(norms).mean())


class CReg(Measure):
    """``train_set/C_reg`` of the training set, not augmented, with the network in evaluation mode.

    Args:
        every_n_steps: see :class:`Measure`.
        batch_size: examples in a minibatch; None for the step's batch size.
        batches: minibatches that are looked at, the first ones of the training set; None for all.
    """

    def __init__(
        self, every_n_steps: int | None = None, batch_size: int | None = None, batches: int | None = None
    ) -> None:
        super().__init__(every_n_steps)
        require_positive(self, batch_size=batch_size, batches=batches)
        self.batch_size, self.batches = batch_size, batches

    def check(self, network: nn.Module, data: KeyedData) -> None:
        if not data.is_finite:
            raise UserError(
                f"CReg: {type(data).__name__} has no finite training set; allowed: image shards, or a stream "
                "with data.shard_size"
            )

    def take(self, run: RunAtStep, member: int) -> Values:
        batches = run.batches("train_set", self.batch_size or run.data.batch_size)
        return {"train_set/C_reg": float(c_reg(run.network, run.loss, islice(batches, self.batches)))}
