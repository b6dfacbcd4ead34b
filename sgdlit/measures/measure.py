"""A measure: a number or array taken of a run at a step, and what it may look at.

A measure is one class in one file of this folder. It names what it needs among the properties of a
:class:`RunAtStep`, each of which is computed once, however many measures need it. When it is taken, by
cadence, members, ranks and logging is the business of ``training.measuring.Measures``, none of the measure's.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.sensing import MatrixSensing
from sgdlit.foundations.errors import UserError
from sgdlit.models.sensing import BilinearForm
from sgdlit.objectives import Loss, frozen_statistics

Values = dict[str, float]
Batches = Callable[[str, int | None], Iterable[Batch]]


class RunAtStep:
    """A run as it is after some updates; nothing that is looked at changes it.

    Args:
        step: updates made.
        network: what is trained.
        loss: the cost of one example.
        data: what it sees.
        batches: (set, batch size) -> every example of an evaluation set, or of the ``train_set``, once.
    """

    def __init__(self, step: int, network: nn.Module, loss: Loss, data: KeyedData, batches: Batches) -> None:
        self.step, self.network, self.loss, self.data, self.batches = step, network, loss, data, batches

    @cached_property
    def matrix(self) -> Tensor:
        """M, ``[d, d]``, of a linear network with prediction aᵀMb."""
        assert isinstance(self.network, BilinearForm)
        with torch.no_grad():
            matrix = self.network.matrix
        assert matrix is not None, "check() lets only linear networks pass"
        return matrix.detach()

    @cached_property
    def target(self) -> Tensor:
        """T, ``[d, d]``, of matrix sensing, as the network's matrix is."""
        assert isinstance(self.data, MatrixSensing)
        return self.data.target.to(self.matrix)


class Measure(ABC):
    """One quantity, taken of a run at some steps.

    Args:
        every_n_steps: steps between two values; None for the cadence of all measures.

    Raises:
        UserError: below 1.
    """

    small: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    """Arguments of some small ones: all of them are tested."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Properties of :class:`RunAtStep` that it looks at, beside network, loss, data and step."""
    headline: ClassVar[str | None] = None
    """The value that the closing line of a run shows; None for none."""

    def __init__(self, every_n_steps: int | None = None) -> None:
        require_positive(self, every_n_steps=every_n_steps)
        self.every_n_steps = every_n_steps

    def check(self, network: nn.Module, data: KeyedData) -> None:
        """Refuse a run that this cannot be measured of.

        Raises:
            UserError: naming the network or the data, and what is allowed.
        """

    def begin(self, members: int, device: torch.device) -> None:
        """Training begins, or goes on, with so many members."""

    @abstractmethod
    def take(self, run: RunAtStep, member: int) -> Values:
        """The values by name; none where there is nothing to say at this step."""

    def note(self, squared_sums: Callable[[int], Tensor], start: int, count: int, owned: slice) -> None:
        """See what steps show as they are made; for measures of the steps themselves.

        Args:
            squared_sums: number of a step, from 0 -> Σ(y − p)² and Σy² of its batch, before its update, for
                each member of this process: ``[2, members]``.
            start: the first of the steps.
            count: how many there are.
            owned: the members of this process.
        """

    def state(self, member: int) -> dict[str, Any]:
        """What a resumed run has to know of a member, in plain types and tensors."""
        return {}

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Go on from the states of all members."""


def require_positive(measure: Measure, **given: int | None) -> None:
    """Refuse arguments below 1.

    Raises:
        UserError: naming it.
    """
    for name, value in given.items():
        if value is not None and value < 1:
            raise UserError(f"{type(measure).__name__}.{name}: {value} is not possible; allowed: 1 or more")


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Inside, a network is in evaluation mode; afterwards it is as before, and so are the random
    generators."""
    modes = {module: module.training for module in network.modules()}
    devices = {p.device for p in network.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)), frozen_statistics(network):
        network.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
