"""The cost along a line between two networks, the barrier on it, and over a plane of directions."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_counts, require_finite, require_some
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.generators import kept
from sgdlit.foundations.philox import derive_key, normal
from sgdlit.measures.from_scripts import LossOfEach, of_each
from sgdlit.measures.mean_gradient import MeanLoss, has_examples, mean_cost, require_examples
from sgdlit.measures.measure import Measure, Parameters, RunAtStep, Values
from sgdlit.measures.undisturbed import (
    copied_buffers,
    has_batchnorm,
    moved,
    outputs_of,
    preserved,
    refuse_not_finite,
)
from sgdlit.measures.work import Sizes, Work, Works
from sgdlit.objectives import Loss


class Line(NamedTuple):
    """Costs along (1 − α)θ₀ + αθ₁.

    Attributes:
        alphas: α, from 0 to 1, float64 ``[points]``.
        costs: C, ``[points]``.
        errors: the share of examples that are not classified correctly, ``[points]``; NaN without classes.
    """

    alphas: Tensor
    costs: Tensor
    errors: Tensor

    @property
    def barrier(self) -> float:
        """max_α[C(θ_α) − (1 − α)C(θ₀) − αC(θ₁)], at least 0; a lower bound, by the points there are."""
        return self._above_chord(self.costs)

    @property
    def error_barrier(self) -> float:
        """The same of the error; NaN without classes."""
        return self._above_chord(self.errors)

    def _above_chord(self, values: Tensor) -> float:
        chord = (1 - self.alphas) * values[0] + self.alphas * values[-1]
        return float((values - chord).max())


def line(
    network: nn.Module,
    loss: LossOfEach,
    batches: Iterable[Batch],
    one: Parameters,
    other: Parameters,
    points: int = 25,
    reestimate: bool = False,
) -> Line:
    """C and the error at points of the line between two networks (Goodfellow et al. 2015, 1412.6544).

    Cost: ``points``/3 gradients of every example; as many passes more where statistics are estimated anew.

    Args:
        network: in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> one loss for each example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]``, gone through at each point.
        one: θ₀, parameters by name; buffers too, in numbers that can be averaged, where they are given.
        other: θ₁, of the same names.
        points: with both ends.
        reestimate: at each point, give BatchNorm the statistics of these examples there.

    Raises:
        UserError: fewer than two points; names that differ; a network that has diverged.
    """
    loss = of_each(loss)
    _require_same(one, other)
    require_counts(fewest=2, points=points)
    batches, found = list(batches), []
    alphas = torch.linspace(0, 1, points, dtype=torch.float64)
    for alpha in alphas.tolist():
        with (
            moved(network, between(one, other, alpha)),
            reestimated(network, batches) if reestimate else nullcontext(),
        ):
            found.append(_cost_and_error(network, loss, batches))
    costs, errors = torch.tensor(found, dtype=torch.float64).T
    return Line(alphas, costs, errors)


def barrier(
    network: nn.Module,
    loss: LossOfEach,
    batches: Iterable[Batch],
    one: Parameters,
    other: Parameters,
    points: int = 25,
    reestimate: bool = False,
) -> float:
    """max_α[C(θ_α) − (1 − α)C(θ₀) − αC(θ₁)] over a grid of α, in C: 0 where the line lies below its chord
    (Frankle et al. 2020, 1912.05671). Arguments as for :func:`line`, which gives the error's barrier too."""
    return line(network, loss, batches, one, other, points, reestimate).barrier


def between(one: Parameters, other: Parameters, alpha: float) -> dict[str, Tensor]:
    """(1 − α)θ₀ + αθ₁, exactly the ends at α = 0 and 1; what is no floating-point number is θ₀'s."""
    require_finite("alpha", [alpha])
    if alpha in (0, 1):
        return dict(other if alpha else one)
    return {
        name: torch.lerp(value.detach(), other[name].detach().to(value), alpha)
        if value.is_floating_point()
        else value
        for name, value in one.items()
    }


@contextmanager
def reestimated(network: nn.Module, batches: Iterable[Batch]) -> Iterator[None]:
    """Inside, BatchNorm's running statistics are the means over these batches, weighted by their sizes."""
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    before = [(layer.training, layer.momentum, layer.track_running_stats) for layer in layers]
    with kept({p.device for p in network.parameters()}), copied_buffers(network):
        try:
            for layer in layers:
                layer.training = layer.track_running_stats = True
            seen = 0
            with torch.no_grad():
                for inputs, _ in batches if layers else ():
                    seen += len(inputs)
                    for layer in layers:
                        layer.momentum = len(inputs) / seen
                    network(inputs.clone())
        finally:
            for layer, (training, momentum, tracks) in zip(layers, before, strict=True):
                layer.training, layer.momentum, layer.track_running_stats = training, momentum, tracks
        yield


def _cost_and_error(network: nn.Module, loss: Loss, batches: Sequence[Batch]) -> tuple[float, float]:
    """Means over examples; the error is NaN where nothing is classified."""
    refuse_not_finite(network)
    cost, wrong, count = 0.0, 0.0, 0
    with preserved(network) as looked_at, torch.no_grad():
        for inputs, targets in filter(has_examples, batches):
            outputs = outputs_of(looked_at, inputs)
            correct = loss.correct(outputs, targets)
            cost += float(loss.per_example(outputs, targets).double().sum())
            wrong += math.nan if correct is None else len(targets) - float(correct.sum())
            count += len(targets)
    require_examples(count)
    return cost / count, wrong / count


def _require_same(one: Parameters, other: Parameters) -> None:
    for name in set(one) ^ set(other):
        raise UserError(f"line: {name} is of one network alone; allowed: two of the same kind")
    for name, value in one.items():
        if value.shape != other[name].shape:
            shapes = f"{tuple(value.shape)} and {tuple(other[name].shape)}"
            raise UserError(f"line: {name} has shapes {shapes}; allowed: two networks of the same kind")


# Planes


def plane(
    network: nn.Module,
    loss: MeanLoss,
    batches: Iterable[Batch],
    u: Mapping[str, Tensor],
    v: Mapping[str, Tensor],
    alphas: Sequence[float],
    betas: Sequence[float],
) -> Tensor:
    """C(θ + αu + βv), float64 ``[len(alphas), len(betas)]``.

    Cost: a third of a gradient of every example at each point.

    Args:
        network: at θ, in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]``, gone through at each point.
        u: a direction by the names of parameters: :func:`random_direction`, a gradient, an update.
        v: another.
        alphas: of the first axis.
        betas: of the second.

    Raises:
        UserError: an axis without numbers, or with one that is not finite.
    """
    for name, axis in (("alphas", alphas), ("betas", betas)):
        require_some(name, axis)
        require_finite(name, axis)
    here = {name: p.detach() for name, p in network.named_parameters() if name in u or name in v}
    batches, found = list(batches), torch.zeros(len(alphas), len(betas), dtype=torch.float64)
    for i, alpha in enumerate(alphas):
        for j, beta in enumerate(betas):
            there = {n: p + _part(alpha, u, n) + _part(beta, v, n) for n, p in here.items()}
            with moved(network, there):
                found[i, j] = mean_cost(network, loss, batches)
    return found


def _part(weight: float, direction: Mapping[str, Tensor], name: str) -> Tensor | float:
    return weight * direction[name] if name in direction else 0.0


def random_direction(network: nn.Module, seed: int, number: int = 0) -> dict[str, Tensor]:
    """Normal numbers of the shapes of the trained parameters, by name: a function of seed and number."""
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    size = sum(p.numel() for p in trained.values())
    drawn = normal(derive_key(seed, "direction"), torch.tensor(0), size, number, torch.float64)
    parts = drawn.split([p.numel() for p in trained.values()])
    return {name: part.view_as(p).to(p) for (name, p), part in zip(trained.items(), parts, strict=True)}


def filter_normalized(network: nn.Module, direction: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The direction with the norm of the weights in each filter, or row of a matrix, and 0 in vectors: biases
    and the numbers of normalizations (Li et al. 2018, 1712.09913)."""
    parameters = dict(network.named_parameters())
    found = {}
    for name, part in direction.items():
        weight = parameters[name].detach()
        if weight.dim() < 2:
            found[name] = torch.zeros_like(part)
            continue
        lengths = [torch.linalg.vector_norm(t.flatten(1), dim=1) for t in (weight, part)]
        scale = lengths[0] / lengths[1].clamp_min(torch.finfo(part.dtype).tiny)
        found[name] = part * scale.view(-1, *[1] * (part.dim() - 1))
    return found


class BarrierFromStart(Measure):
    """``measure/barrier_from_start`` max_α[C(θ_α) − (1 − α)C(θ₀) − αC(θ_t)] on the line from the start, and
    ``measure/error_barrier_from_start``, the same of the error, where there are classes.

    With BatchNorm the network's own statistics count at every point; ``..._reestimated`` beside them are with
    the statistics that the examples have there.

    Args:
        points: α, with both ends; the barrier of more points is never lower.
        cadence: see :class:`Measure`.
    """

    formula = "max_α[C((1 − α)θ₀ + αθ_t) − (1 − α)C(θ₀) − αC(θ_t)]"
    answers = "does a barrier lie between the network and its start"
    price = "points n/3; twice that with BatchNorm, and as much again to estimate its statistics"
    logged = (
        "measure/barrier_from_start",
        "measure/error_barrier_from_start",
        "measure/barrier_from_start_reestimated",
        "measure/error_barrier_from_start_reestimated",
    )
    needs = ("examples", "parameters", "initial_parameters")
    small = ({"points": 4},)

    def __init__(self, points: int = 25, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts("BarrierFromStart", fewest=2, points=points)
        self.points = points

    def work(self, sizes: Sizes) -> Works:
        return {self: Work(forwards=(3 if sizes.normalized else 1) * self.points * sizes.examples)}

    def take(self, run: RunAtStep, member: int) -> Values:
        found: Values = {}
        for again in (False, True) if has_batchnorm(run.network) else (False,):
            along = line(
                run.network,
                run.loss,
                run.examples,
                run.initial_parameters,
                run.parameters,
                self.points,
                again,
            )
            end = "_reestimated" if again else ""
            found[f"measure/barrier_from_start{end}"] = along.barrier
            if not math.isnan(along.error_barrier):
                found[f"measure/error_barrier_from_start{end}"] = along.error_barrier
        return found
