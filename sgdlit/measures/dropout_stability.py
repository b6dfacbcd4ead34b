"""Dropout stability: what a mean-field network loses when only some of its neurons are kept."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.errors import UserError
from sgdlit.measures.from_scripts import LossOfEach, of_each
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.undisturbed import preserved
from sgdlit.models.mean_field import MeanField


def kept_loss(network: MeanField, loss: LossOfEach, batches: Iterable[Batch], kept: int) -> float:
    """C of (1/K) Σ_{i≤K} a_i φ(w_i·x + b_i), the first K neurons alone, rescaled by N/K; nothing changes.

    Neurons are drawn alike, so the first ones are as good as any. Source: Shevchenko & Mondelli 2019,
    1912.10095.

    Raises:
        UserError: K not in 1 … N.
    """
    if not 1 <= kept <= len(network.a):
        raise UserError(f"kept = {kept}: must be 1 to the number of neurons, {len(network.a)}")
    loss = of_each(loss)
    some = {name: p.detach()[:kept] for name, p in network.named_parameters()}
    with preserved(network), torch.no_grad():
        each = [loss.per_example(functional_call(network, some, (x,)), y).double() for x, y in batches]
    return float(torch.cat(each).mean())


class DropoutStability(Measure):
    """``measure/loss_of_half`` C of the first half of the neurons, ``measure/loss_of_kept`` of the first K,
    and ``measure/dropout_increase``, that of the half less C.

    Args:
        kept: K; None for half of the neurons.
        cadence: see :class:`Measure`.
    """

    formula = "C of (1/K) Σ_{i≤K} a_i φ(w_i·x + b_i)"
    answers = "how much does a mean-field network lose with half of its neurons"
    price = "n/2"
    logged = ("measure/loss_of_half", "measure/loss_of_kept", "measure/dropout_increase")
    small = ({}, {"kept": 3})
    needs = ("examples", "cost")
    headline = "measure/dropout_increase"

    def __init__(self, kept: int | None = None, **cadence: Any) -> None:
        super().__init__(**cadence)
        if kept is not None and kept < 1:
            raise UserError(f"DropoutStability.kept: {kept} is not possible; allowed: 1 or more")
        self.kept = kept

    def check(self, network: nn.Module, data: KeyedData) -> None:
        if not isinstance(network, MeanField) or len(network.a) < 2:
            raise UserError(
                f"DropoutStability: {type(network).__name__} is no mean over neurons; allowed: "
                "sgdlit.models.mean_field.MeanField of two or more"
            )
        if self.kept is not None and self.kept > len(network.a):
            raise UserError(
                f"DropoutStability: kept = {self.kept} of {len(network.a)} neurons; allowed: no more"
            )

    def take(self, run: RunAtStep, member: int) -> Values:
        assert isinstance(run.network, MeanField), "check() lets no others pass"
        half = kept_loss(run.network, run.loss, run.examples, len(run.network.a) // 2)
        values = {"measure/loss_of_half": half, "measure/dropout_increase": half - run.cost}
        if self.kept is None:
            return values | {"measure/loss_of_kept": half}
        return values | {"measure/loss_of_kept": kept_loss(run.network, run.loss, run.examples, self.kept)}
