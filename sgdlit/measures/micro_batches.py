"""The noise of gradients from the parts of one batch: the cheap form, for any network and any loss."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.orders import LearnedOrder
from sgdlit.foundations.arguments import require_counts, require_population, require_shares
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import fieller_interval, jackknife_covariance
from sgdlit.measures.example_gradients import example_gradients
from sgdlit.measures.from_scripts import of_each, of_mean
from sgdlit.measures.gradient_noise import Noise, noise_of_parts
from sgdlit.measures.mean_gradient import (
    MeanLoss,
    gradient_of,
    require_examples,
    squared_norm,
    trained_parameters,
)
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.undisturbed import (
    outputs_of,
    preserved,
    refuse_coupled_examples,
    refuse_not_finite,
    require_tensor,
)
from sgdlit.measures.work import Sizes, Work, Works, work_of_company
from sgdlit.objectives.step_shown import Kind, StepNorms

_OF_FIRST = "a first part has the gradient of another function than the whole batch"


def noise_of_batch(
    network: nn.Module,
    loss: MeanLoss,
    batch: Batch,
    parts: int | None = 4,
    population: float = math.inf,
    checked: bool = False,
    first: int | None = None,
) -> Noise:
    """Ŝ² and Ĝ² of one batch from the gradients of its parts, see
    :func:`sgdlit.measures.gradient_noise.noise_of_parts`.

    Cost: a gradient of the batch, in ``parts`` passes; for networks of linear layers less than one with each
    example as a part, the most precise. One draw is noisy: average over steps with :func:`noise_of_steps`.

    Args:
        network: in the mode in which it is; nothing of it changes. BatchNorm may take the statistics of each
            part, which are then those of a smaller batch.
        loss: its mean over a part, or one of each example.
        batch: inputs ``[b, ...]`` and targets ``[b, ...]``.
        parts: c, 2 or more and at most b; they differ by at most one example. None for single examples, for
            which the loss must have values of its own.
        population: N, from which the examples were drawn without replacement.
        first: examples of the first of two ``parts``, see :func:`noise_of_first`; by default they are equal.
        checked: see :func:`sgdlit.measures.example_gradients.example_gradients`.

    Raises:
        UserError: fewer than two parts, or more than examples; a network that has diverged.
    """
    inputs, targets = batch
    require_tensor(inputs)
    if parts is None:
        return _noise_of_examples(network, loss, batch, population, checked)
    if not 2 <= parts <= len(inputs) or parts % 1:
        allowed = f"2 to {len(inputs)}" if len(inputs) > 1 else "2 or more, of a batch of as many"
        raise UserError(f"parts: {parts} is not possible for a batch of {len(inputs)}; allowed: {allowed}")
    loss = of_mean(loss)
    refuse_not_finite(network)
    if first is not None:
        _require_first(first, len(inputs), parts)
        return noise_of_first(
            network, loss, batch, first, gradient_of_batch(network, loss, batch), population
        )
    norms, sizes = [], [len(x) for x in inputs.tensor_split(parts)]
    with preserved(network) as looked_at, torch.enable_grad():
        parameters = trained_parameters(looked_at)
        mean = {name: torch.zeros_like(p) for name, p in parameters.items()}
        for x, y in zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True):
            found = gradient_of(loss(outputs_of(looked_at, x), y).mean(), list(parameters.values()))
            norms.append(squared_norm(dict(zip(parameters, found, strict=True))))
            torch._foreach_add_(list(mean.values()), found, alpha=len(x) / len(inputs))
    return noise_of_parts(torch.tensor(norms, dtype=torch.float64), sizes, squared_norm(mean), population)


def noise_of_first(
    network: nn.Module,
    loss: MeanLoss,
    batch: Batch,
    first: int,
    gradient: Mapping[str, Tensor],
    population: float = math.inf,
) -> Noise:
    """Ŝ² and Ĝ² of one batch in two parts, from the gradient h₁ of its first b examples and h̄ of all B.

    What is left for the second part is h₂ = (Bh̄ − bh₁)/(B − b), so that the estimates of
    :func:`sgdlit.measures.gradient_noise.noise_of_parts` are Ŝ² = bB/(B − b)·‖h₁ − h̄‖² and
    Ĝ² = ‖h̄‖² − (1 − B/N)Ŝ²/B. For normal gradients Ŝ² has the same
    distribution for every b, ‖n‖² of a normal n with the examples' covariance: a small first part costs less.

    Args:
        network: see :func:`noise_of_batch`.
        loss: its mean over a part, or one of each example.
        batch: inputs ``[B, ...]`` and targets ``[B, ...]``.
        first: b, above 0 and below B.
        gradient: h̄, of all B examples, by the parameter's name.
        population: N, see :func:`noise_of_batch`.

    Raises:
        UserError: a first part that is empty or all; BatchNorm that takes the statistics of the batch, by
            which h₁ is the gradient of another function than h̄.
    """
    size = len(batch[0])
    _require_first(first, size)
    refuse_coupled_examples(network, _OF_FIRST)
    inputs, targets = (part[:first] for part in batch)
    of_first = gradient_of_batch(network, loss, (inputs, targets))
    apart = torch._foreach_sub([of_first[name] for name in gradient], list(gradient.values()))
    require_population(population, size)
    trace = first * size / (size - first) * squared_norm(dict(zip(gradient, apart, strict=True)))
    return Noise(trace, squared_norm(gradient) - (1 - size / population) * trace / size)


def _require_first(first: int, size: int, parts: int = 2) -> None:
    if parts != 2 or not 1 <= first < size or first % 1:
        raise UserError(
            f"first: {first} is not possible with parts: {parts} of a batch of {size}; allowed: 1 to "
            f"{size - 1} with parts: 2"
        )


def gradient_of_batch(network: nn.Module, loss: MeanLoss, batch: Batch) -> dict[str, Tensor]:
    """The gradient of the mean cost of one batch, by the parameter's name, in the network's precision."""
    with preserved(network) as looked_at, torch.enable_grad():
        parameters = trained_parameters(looked_at)
        cost = of_mean(loss)(outputs_of(looked_at, batch[0]), batch[1]).mean()
        return dict(zip(parameters, gradient_of(cost, list(parameters.values())), strict=True))


def _noise_of_examples(
    network: nn.Module, loss: MeanLoss, batch: Batch, population: float, checked: bool
) -> Noise:
    """From single examples and their sum, found in one pass."""
    found = example_gradients(network, of_each(loss), [batch], None, True, checked)
    norms, _, of_mean = found
    require_examples(len(norms), 2)
    assert of_mean is not None, "it was asked for"
    return noise_of_parts(norms, torch.ones(len(norms)), of_mean, population)


def noise_of_step(norms: StepNorms, population: float = math.inf) -> Noise:
    """Ŝ² and Ĝ² of a step's batch from its single examples, without a pass of its own.

    Args:
        norms: those of the gradients of the examples and of their mean, as the step's own backward pass shows
            them.
        population: N, see :func:`noise_of_batch`.
    """
    squares, of_mean = norms
    return noise_of_parts(squares, torch.ones(len(squares)), float(of_mean), population)


def noise_of_steps(
    traces: Sequence[float], squares: Sequence[float], block: int = 1, level: float = 0.95
) -> tuple[float, float, float]:
    """B_simple = mean Ŝ²_t/mean Ĝ²_t over steps, and its interval: a ratio of means, never a mean of ratios.

    The interval is Fieller's, with the covariance of the jackknife over blocks of consecutive steps; blocks
    must be longer than the draws of neighbouring steps are correlated. The parameters moved meanwhile: it is
    an average over a piece of the run.

    Args:
        traces: Ŝ² at each of T steps.
        squares: Ĝ² at each of them; some may be negative.
        block: steps in a block; a last block that is not full is left out.
        level: coverage.

    Returns:
        The ratio in examples, and the ends of its interval; the upper one is infinite where Ĝ² may be 0.

    Raises:
        UserError: fewer than three blocks; traces and squares that are not as many.
    """
    require_shares(level=level)
    require_counts(block=block)
    if len(traces) != len(squares):
        raise UserError(f"squares: {len(squares)} for {len(traces)} traces; allowed: as many")
    pairs = np.stack([np.asarray(traces, np.float64), np.asarray(squares, np.float64)], 1)
    count = len(pairs) // block
    if count < 3:
        raise UserError(
            f"block: {block} of {len(pairs)} steps is not possible; allowed: three blocks or more"
        )
    blocks = pairs[: count * block].reshape(count, block, 2).mean(1)
    trace, square = blocks.mean(0)
    covariance = jackknife_covariance((blocks.sum(0) - blocks) / (count - 1))
    low, high = fieller_interval((trace, square), covariance, count - 1, level)
    return float(trace / square) if square else math.inf, low, high


class MicroBatchNoise(Measure):
    """``measure/step_covariance_trace`` Ŝ² and ``measure/step_squared_gradient`` Ĝ² from the parts of one
    batch, without bias and noisy: for averages over steps, see :func:`noise_of_steps`.

    It is the batch that the next step sees, augmented as the step has it; the second value may be negative.

    Args:
        parts: c, in how many parts the batch is cut; None for single examples.
        batch_size: how many of its examples are looked at, the first ones; None for all.
        first: of two parts of a whole batch, how many examples are in the first one; by default half of them.
            A step whose own gradient is there leaves only these to look at, see :func:`noise_of_first`.
        cadence: see :class:`Measure`.
    """

    formula = "Ŝ² = (Σ_j b_j‖h_j‖² − B‖h̄‖²)/(c − 1), Ĝ² = ‖h̄‖² − (1 − B/N)Ŝ²/B of parts j of a batch"
    answers = "how noisy is the gradient, at the price of one step"
    price = "B, in c passes; of single examples less (linear layers), and nothing where the step shows them"
    logged = ("measure/step_covariance_trace", "measure/step_squared_gradient")
    needs = ("step_batch",)
    small = ({}, {"parts": 3, "batch_size": 7}, {"parts": None}, {"parts": 2, "first": 2})

    def __init__(
        self,
        parts: int | None = 4,
        batch_size: int | None = None,
        first: int | None = None,
        **cadence: Any,
    ) -> None:
        super().__init__(**cadence)
        require_counts("MicroBatchNoise", parts=parts, batch_size=batch_size, first=first)
        if first is not None and (parts != 2 or batch_size is not None):
            raise UserError(
                f"MicroBatchNoise.first: {first} is not possible with parts: {parts} and batch_size: "
                f"{batch_size}; allowed: with parts: 2 of whole batches"
            )
        if parts is not None and (parts < 2 or (batch_size is not None and batch_size < parts)):
            raise UserError(
                f"MicroBatchNoise.parts: {parts} is not possible for batch_size: {batch_size}; allowed: 2 to "
                "batch_size"
            )
        self.parts, self.batch_size, self.first = parts, batch_size, first
        self._checked: set[int] = set()  # members whose network was looked at, and was not refused

    @property
    def looks_at_each(self) -> bool:
        return self.parts is None

    def check(self, network: nn.Module, data: KeyedData) -> None:
        if isinstance(data.order, LearnedOrder):
            raise UserError(
                f"MicroBatchNoise: {type(data.order).__name__} follows from the gradients that were seen, so "
                "that the next step's batch is no function of the step; allowed: another order"
            )
        if self.first is not None:
            refuse_coupled_examples(network, _OF_FIRST, "MicroBatchNoise: ")
        seen = min(self.batch_size or data.batch_size, data.batch_size)
        if seen < self._fewest:
            name, value = ("first", self.first) if self.first is not None else ("parts", self.parts)
            raise UserError(
                f"MicroBatchNoise.{name}: {value} is not possible for {seen} examples of a batch of "
                f"{data.batch_size}; allowed: batches of {self._fewest} or more"
            )

    def begin(self, members: int, device: torch.device) -> None:
        self._checked.clear()

    def work(self, sizes: Sizes) -> Works:
        size = min(self.batch_size or sizes.batch_size, sizes.batch_size)
        shown = sizes.shown is not None and sizes.shown == self.found_in_a_step
        if self.first is not None and self.first < size:
            whole = {} if shown else {(self, "whole"): Work(gradients=size, together=size)}
            return whole | {self: Work(gradients=self.first, together=self.first)}
        if size < self._fewest or shown:
            return {}
        if self.parts is None:
            return {self: work_of_company(size, sizes.linear)._replace(example_gradients=size, together=size)}
        return {self: Work(gradients=size, together=size // self.parts)}

    def take(self, run: RunAtStep, member: int) -> Values:
        inputs, targets = (part[: self.batch_size] for part in run.step_batch)
        if len(inputs) < self._fewest:
            return {}
        checked, population = member in self._checked, population_of(run.data)
        found = noise_of_batch(
            run.network, run.loss, (inputs, targets), self.parts, population, checked, self.first
        )
        self._checked.add(member)
        return _values(found)

    @property
    def _fewest(self) -> int:
        """Examples of the smallest batch that has so many parts."""
        return (self.parts or 2) if self.first is None else self.first + 1

    @property
    def found_in_a_step(self) -> Kind | None:
        if self.first is not None:
            return "gradient"
        return "norms" if self.parts is None and self.batch_size is None else None

    def take_of_norms(self, norms: StepNorms, data: KeyedData) -> Values:
        if len(norms.squared_norms) < self._fewest:
            return {}
        return _values(noise_of_step(norms, population_of(data)))

    def take_of_gradient(self, run: RunAtStep, gradient: Mapping[str, Tensor]) -> Values:
        if self.first is None or len(run.step_batch[0]) < self._fewest:
            return {}
        population = population_of(run.data)
        return _values(
            noise_of_first(run.network, run.loss, run.step_batch, self.first, gradient, population)
        )


def _values(found: Noise) -> Values:
    return {
        "measure/step_covariance_trace": found.covariance_trace,
        "measure/step_squared_gradient": found.squared_gradient,
    }


def population_of(data: KeyedData) -> float:
    """N; infinite for a stream, and where the order draws with replacement."""
    if data.training_size is None or data.order.repeats_examples:
        return math.inf
    return data.training_size
