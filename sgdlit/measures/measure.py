"""A measure: a number or array taken of a run at a step, and what it may look at.

A measure is one class in one file of this folder. It names what it needs among the properties of a
:class:`RunAtStep`, each of which is computed once, however many measures need it. When it is taken, by
cadence, members, ranks and logging is the business of ``training.measuring.Measures``, none of the measure's.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.sensing import MatrixSensing
from sgdlit.foundations.arguments import require_counts
from sgdlit.foundations.errors import UserError
from sgdlit.measures.example_gradients import ExampleGradients
from sgdlit.measures.example_sums import ExampleSums
from sgdlit.measures.mean_gradient import MeanGradient, layers_of
from sgdlit.measures.undisturbed import Mode
from sgdlit.measures.work import Sizes, Works, work_of_needs
from sgdlit.models.sensing import BilinearForm
from sgdlit.objectives import Loss
from sgdlit.objectives.step_shown import Kind, StepNorms

T = TypeVar("T")
Values = dict[str, float]
Batches = Callable[[str, int | None], Iterable[Batch]]
Parameters = Mapping[str, Tensor]
"""Copies of the parameters at some step, by name."""

OF_EXAMPLES = frozenset({"examples", "cost", "gradient", "example_norms", "example_products"})
"""What needs examples of the training set."""

OF_PARAMETERS = frozenset({"matrix", "target", "parameters", "initial_parameters", "previous_parameters"})
"""What needs parameters alone. A measure with one of these needs, and no others, does not run the network."""


class Examples:
    """Training examples that measures look at, not augmented, in chunks; each time they are made anew.

    Args:
        make: which of them -> inputs ``[b, ...]`` and targets ``[b, ...]``.
        count: n, how many there are.
        chunk_size: examples in a chunk; the last one may be smaller.
        population: N, how many examples they were drawn from without replacement; infinite for a stream.
    """

    def __init__(
        self, make: Callable[[slice], Batch], count: int, chunk_size: int, population: float
    ) -> None:
        self.make, self.count, self.chunk_size, self.population = make, count, chunk_size, population

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.count, self.chunk_size):
            yield self.make(slice(start, min(start + self.chunk_size, self.count)))


class RunAtStep:
    """A run as it is after some updates; nothing that is looked at changes it.

    Args:
        step: updates made.
        network: what is trained.
        loss: the cost of one example.
        data: what it sees.
        batches: (set, batch size) -> every example of an evaluation set, or of the ``train_set``, once.
        examples: those of the training set that measures look at; None where no measure needs any.
        optimizer: what makes its updates.
        needs: the properties that any of the measures of this step needs.
        initial_parameters: those before the first update, where a measure needs them.
        previous_parameters: those one update before, then two updates before, as far as they were kept.
        gradient_factor: what the optimizer receives over the gradient of a step's mean cost: B where a run
            reduces by ``sum``, else 1.
        step_batch: makes the batch that the next step sees; None where a measure needs none.
    """

    def __init__(
        self,
        step: int,
        network: nn.Module,
        loss: Loss,
        data: KeyedData,
        batches: Batches,
        examples: Examples | None = None,
        optimizer: Optimizer | None = None,
        needs: Collection[str] = (),
        initial_parameters: Parameters | None = None,
        previous_parameters: Sequence[Parameters] = (),
        gradient_factor: int = 1,
        step_batch: Callable[[], Batch] | None = None,
    ) -> None:
        self._step_batch = step_batch
        self.step, self.network, self.loss, self.data, self._batches = step, network, loss, data, batches
        self.needs, self._optimizer = frozenset(needs), optimizer
        self._examples, self._initial = examples, initial_parameters
        self._previous = tuple(previous_parameters)
        self.gradient_factor = gradient_factor
        self._sums: ExampleSums | None = None  # of several ranks
        self._once: dict[Hashable, Any] = {}

    def once(self, find: Callable[..., T], *arguments: Hashable) -> T:
        """find(self, *arguments), computed once however many measures ask for it."""
        key = (find, *arguments)
        if key not in self._once:
            self._once[key] = find(self, *arguments)
        return self._once[key]

    @property
    def batches(self) -> Batches:
        """(set, batch size) -> every example of an evaluation set, or of the ``train_set``, once."""
        return self._batches

    @property
    def examples(self) -> Examples:
        """Of the training set, not augmented."""
        assert self._examples is not None, "a measure that looks at examples says so in its needs"
        return self._examples

    @cached_property
    def step_batch(self) -> Batch:
        """What the next step sees: inputs and targets ``[B, ...]``."""
        assert self._step_batch is not None, "a measure that looks at the step's batch says so in its needs"
        return self._step_batch()

    def sums(self) -> ExampleSums:
        """Those over the examples, which several measures and several ranks share."""
        return self._sums or ExampleSums(self.network, self.loss, self.examples)

    def use(self, sums: ExampleSums) -> None:
        """Take sums over the examples from others than this process alone."""
        self._sums = sums

    @property
    def optimizer(self) -> Optimizer:
        """What makes the updates, with its state."""
        assert self._optimizer is not None, "a run in training has an optimizer"
        return self._optimizer

    @property
    def optimizer_state(self) -> Mapping[Any, Any]:
        """What it keeps of each parameter, such as averages of gradients."""
        return self.optimizer.state

    @property
    def previous_parameters(self) -> tuple[Parameters, ...]:
        """θ one update before, then two updates before, as far as they were kept."""
        return self._previous

    @property
    def initial_parameters(self) -> Parameters:
        """θ₀, by name."""
        assert self._initial is not None, "a measure that looks at the start says so in its needs"
        return self._initial

    @cached_property
    def parameters(self) -> Parameters:
        """θ, by name, without a graph; not a copy."""
        return {name: p.detach() for name, p in self.network.named_parameters()}

    @cached_property
    def _mean_gradient(self) -> MeanGradient:
        return self.sums().mean_gradient()

    @cached_property
    def cost(self) -> float:
        """C, the mean over the examples."""
        if "gradient" in self.needs or "example_products" in self.needs:
            return self._mean_gradient.cost
        return self.sums().mean_cost()

    @property
    def gradient(self) -> dict[str, Tensor]:
        """∇C, the mean over the examples, float64 by the parameter's name."""
        return self._mean_gradient.gradient

    @cached_property
    def _example_gradients(self) -> ExampleGradients:
        direction = self.gradient if "example_products" in self.needs else None
        return self.sums().example_gradients(direction)

    @property
    def example_norms(self) -> Tensor:
        """‖∇C_i‖² of each of the examples, float64 ``[n]``."""
        return self._example_gradients.squared_norms

    @property
    def example_products(self) -> Tensor:
        """∇C_i·∇C of each of the examples, float64 ``[n]``."""
        assert self._example_gradients.products is not None, "a measure that looks at products says so"
        return self._example_gradients.products

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
        return self.data.target_like(self.matrix)


def layers_of_run(run: RunAtStep) -> dict[str, str]:
    """The layer of each parameter, by names; ask for it by ``run.once``."""
    return layers_of(run.network)


@dataclass(frozen=True)
class LogSpaced:
    """Steps close to first · 2^(k/per_doubling), k = 0, 1, …, and step 0.

    Args:
        first: the first of them after step 0, 1 or more.
        per_doubling: steps until their number has doubled, 1 or more.
    """

    first: int = 1
    per_doubling: int = 2


@dataclass(frozen=True)
class AtSteps:
    """Some steps, beside step 0 and the last one.

    Args:
        steps: numbers of updates made, one or more, from 0 on.
    """

    steps: list[int]


Cadence = LogSpaced | AtSteps


class Measure(ABC):
    """One quantity, taken of a run at some steps.

    The catalogue, ``python -m sgdlit measures``, shows the constants of the class, and reads them without
    running the file: each is a literal.

    Args:
        every_n_steps: steps between two values; with neither this nor ``at``, the cadence of all measures.
        at: log-spaced steps, or some by number.
        examples: n, how many examples of the training set this measure looks at; ``all`` of them; None for
            as many as all measures.
        mode: ``eval`` or ``train``; None for the mode of all measures.

    Raises:
        UserError: below 1; two cadences.
    """

    formula: ClassVar[str] = ""
    """What it is."""
    answers: ClassVar[str] = ""
    """The question that it answers."""
    price: ClassVar[str] = ""
    """What it costs, for n examples, in gradients of one example, before what it shares with others."""
    logged: ClassVar[tuple[str, ...]] = ()
    """Names of its values; parts in capitals vary."""
    small: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    """Arguments of some small ones: all of them are tested."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Properties of :class:`RunAtStep` that it looks at, beside network, loss, data and step."""
    looks_back: ClassVar[int] = 0
    """Number of updates before a step whose parameters it needs, 0 to 2: ``previous_parameters``."""
    arrays: ClassVar[Mapping[str, str]] = {}
    """Names of the arrays that it leaves beside its values, each with its axes and units."""
    headline: ClassVar[str | None] = None
    """The value that the closing line of a run shows; None for none."""

    def __init__(
        self,
        every_n_steps: int | None = None,
        at: Cadence | None = None,
        examples: int | Literal["all"] | None = None,
        mode: Mode | None = None,
    ) -> None:
        check_cadence(type(self).__name__, every_n_steps, at)
        require_counts(type(self).__name__, examples=None if examples == "all" else examples)
        self.every_n_steps, self.at = every_n_steps, at
        self.examples, self.mode = examples, mode

    @property
    def looks_at_each(self) -> bool:
        """Whether it looks at gradients of single examples, which not every network and loss has."""
        return bool({"example_norms", "example_products"} & set(self.needs))

    @property
    def found_in_a_step(self) -> Kind | None:
        """What a step's own backward pass has to show for the values to be found there; None for never."""
        return None

    def take_of_gradient(self, run: RunAtStep, gradient: Mapping[str, Tensor]) -> Values:
        """The values, to the last bit those of ``take``, where the next step shows its ``gradient``.

        Args:
            run: as the step sees it, with the batch that it sees.
            gradient: of the mean cost of that batch, by the parameter's name.
        """
        return {}

    def take_of_norms(self, norms: StepNorms, data: KeyedData) -> Values:
        """The values, to the last bit those of ``take``, where the next step shows norms.

        Args:
            norms: of the gradients of the examples of the step's batch, and of their mean.
            data: what the run sees.
        """
        return {}

    def work(self, sizes: Sizes) -> Works:
        """What taking it costs at a step, by what is found; by default what its needs cost.

        What it finds by ``RunAtStep.once`` it names by that function and its arguments, as a tuple; what it
        shares with no other, by itself.
        """
        return work_of_needs(self.needs, sizes)

    def check(self, network: nn.Module, data: KeyedData) -> None:
        """Refuse a run that this cannot be measured of.

        Raises:
            UserError: naming the network or the data, and what is allowed.
        """

    def check_optimizer(self, optimizer: Optimizer) -> None:
        """Refuse an optimizer under which this cannot be measured.

        Raises:
            UserError: naming the optimizer, and what is allowed.
        """

    def begin(self, members: int, device: torch.device) -> None:
        """Training begins, or goes on, with so many members."""

    @abstractmethod
    def take(self, run: RunAtStep, member: int) -> Values:
        """The values by name; none where there is nothing to say at this step."""

    def take_arrays(self, run: RunAtStep, member: int) -> dict[str, Tensor]:
        """The arrays by name, after ``take`` at the same step; what both need they find by ``run.once``."""
        return {}

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


def check_cadence(owner: str, every_n_steps: int | None, at: Cadence | None) -> None:
    """Refuse what is no cadence.

    Raises:
        UserError: a period below 1; steps that are none; two cadences.
    """
    require_counts(owner, every_n_steps=every_n_steps)
    if isinstance(at, LogSpaced):
        require_counts("LogSpaced", first=at.first, per_doubling=at.per_doubling)
    if isinstance(at, AtSteps) and min(at.steps, default=-1) < 0:
        raise UserError(f"AtSteps.steps: {at.steps} is not possible; allowed: one or more, from 0 on")
    if every_n_steps is not None and at is not None:
        raise UserError(f"{owner}.every_n_steps: {every_n_steps} beside {owner}.at; allowed: one of them")
