"""Adaptive sharpness: what the loss gains where each parameter moves in proportion to its size.

Unlike an eigenvalue of the Hessian, it is the same for two networks that differ by a rescaling of neurons.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_above_zero, require_counts
from sgdlit.foundations.philox import derive_key, normal
from sgdlit.measures.estimate import Estimate, mean_of
from sgdlit.measures.from_scripts import LossOfEach, gathered
from sgdlit.measures.mean_gradient import mean_cost, mean_gradient, trained_parameters
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.undisturbed import moved
from sgdlit.measures.work import DRAWN, Sizes, Work, Works


class AverageRise(NamedTuple):
    """What :func:`average_sharpness` finds: the mean with its interval, and each draw's value ``[m]``."""

    mean: Estimate
    draws: Tensor


def average_sharpness(
    network: nn.Module,
    loss: LossOfEach,
    batches: Iterable[Batch],
    radius: float = 0.05,
    draws: int = 20,
    seed: int = 0,
    step: int = 0,
) -> AverageRise:
    """E C(θ + ρ|θ|∘z) − C(θ) over standard normal z, with a 95 % interval; unit C.

    For small ρ it is ½ρ²Σ H_ii θ_i². It may be negative where the loss falls around θ.

    Cost: (m + 1)/3 gradients of every example for m draws. Source: Andriushchenko et al. 2023, 2302.07011,
    equation 3 with c = |w|.

    Args:
        network: in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs and targets of all examples.
        radius: ρ, relative to each parameter.
        draws: m; 2 or more for an interval.
        seed: of z, with ``step``.
        step: updates made.

    Raises:
        UserError: a radius that is not positive; fewer than one draw; a network that has diverged; no
            examples.
    """
    batches = _checked(batches, radius=radius, draws=draws)
    here, parameters = mean_cost(network, loss, batches), _trained(network)
    found = []
    for number in range(draws):
        there = _moved_by(parameters, _normal(parameters, seed, step, number), radius)
        with moved(network, there):
            found.append(mean_cost(network, loss, batches) - here)
    rises = torch.tensor(found, dtype=torch.float64)
    return AverageRise(mean_of(rises), rises)


def worst_case_sharpness(
    network: nn.Module,
    loss: LossOfEach,
    batches: Iterable[Batch],
    radius: float = 0.05,
    steps: int = 20,
) -> float:
    """A lower bound of max C(θ + v) − C(θ) over |v_i| ≤ ρ|θ_i|, found by ascent; unit C, at least 0.

    Steps along the sign of the gradient, of a length that falls from ρ|θ| to 0, are cut back to the box; the
    highest point on the way counts. The maximum itself may be higher: nothing says by how much. Where the
    loss is linear in the box, or a sum of convex functions of single parameters that the signs of its slope
    lead up, it is the maximum.

    Cost: ``steps`` gradients of every example, and a third. Source: Kwon et al. 2021, 2102.11600, with p = ∞;
    Andriushchenko et al. 2023, 2302.07011, equation 2.

    Args:
        network: see :func:`average_sharpness`, as ``loss`` and ``batches``.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs and targets of all examples.
        radius: ρ.
        steps: of the ascent.

    Raises:
        UserError: see :func:`average_sharpness`.
    """
    batches = _checked(batches, radius=radius, steps=steps)
    parameters = _trained(network)
    shifts = {name: torch.zeros_like(p) for name, p in parameters.items()}
    here, best = None, 0.0
    for number in range(steps):
        with moved(network, _moved_by(parameters, shifts, radius)):
            found = mean_gradient(network, loss, batches)
        here = found.cost if here is None else here
        best, length = max(best, found.cost - here), 2.0 * (1 - number / steps) if number else 1.0
        for name, shift in shifts.items():
            # v = ρ|θ|∘shift, so that the slope by v has the sign of that by the shift.
            shift.add_(found.gradient[name].sign().to(shift), alpha=length).clamp_(-1, 1)
    with moved(network, _moved_by(parameters, shifts, radius)):
        return max(best, mean_cost(network, loss, batches) - (here or 0.0))


def _checked(batches: Iterable[Batch], radius: float, **counts: int) -> list[Batch]:
    require_above_zero(radius=radius)
    require_counts(**counts)
    return gathered(batches)


def _trained(network: nn.Module) -> dict[str, Tensor]:
    """Copies of the trained parameters."""
    return {name: p.detach().clone() for name, p in trained_parameters(network).items()}


def _moved_by(parameters: dict[str, Tensor], shifts: dict[str, Tensor], radius: float) -> dict[str, Tensor]:
    return {name: p + radius * p.abs() * shifts[name] for name, p in parameters.items()}


def _normal(parameters: dict[str, Tensor], seed: int, step: int, number: int) -> dict[str, Tensor]:
    """z, a function of seed, step and number."""
    size = sum(p.numel() for p in parameters.values())
    drawn = normal(
        derive_key(seed, "adaptive sharpness"), torch.tensor(step), size, number, torch.float64
    ).split([p.numel() for p in parameters.values()])
    return {name: z.view_as(p).to(p) for (name, p), z in zip(parameters.items(), drawn, strict=True)}


class AdaptiveSharpness(Measure):
    """``measure/average_sharpness`` E C(θ + ρ|θ|∘z) − C(θ) over normal z, with ``_low`` and ``_high``, and
    ``measure/worst_case_sharpness_low``, a lower bound of the largest rise with |v_i| ≤ ρ|θ_i|, found by
    ascent; of the examples.

    Args:
        radius: ρ, relative to each parameter.
        draws: of z.
        steps: of the ascent; 0 for none.
        cadence: see :class:`Measure`.
    """

    formula = "E C(θ + ρ|θ|∘z) − C(θ), z ~ N(0, 1); max over |v_i| ≤ ρ|θ_i| of C(θ + v) − C(θ), from below"
    answers = "how flat is the loss, whatever the scale of each parameter"
    price = "(m + 1) n/3 for m draws, and s n for s steps of ascent"
    logged = (
        "measure/average_sharpness",
        "measure/average_sharpness_low",
        "measure/average_sharpness_high",
        "measure/worst_case_sharpness_low",
    )
    needs = ("examples",)
    small = ({"draws": 3, "steps": 2},)

    def __init__(self, radius: float = 0.05, draws: int = 20, steps: int = 10, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts("AdaptiveSharpness", draws=draws)
        require_counts("AdaptiveSharpness", fewest=0, steps=steps)
        require_above_zero("AdaptiveSharpness", radius=radius)
        self.radius, self.draws, self.steps = radius, draws, steps

    def work(self, sizes: Sizes) -> Works:
        n, passes = sizes.examples, self.draws + 1 + (self.steps > 0)
        vectors = self.draws * DRAWN + 4 * self.steps
        return {self: Work(forwards=passes * n, gradients=self.steps * n, vectors=vectors)}

    def take(self, run: RunAtStep, member: int) -> Values:
        given, seed = (run.network, run.loss, run.examples, self.radius), run.data.seed
        values = average_sharpness(*given, self.draws, seed, run.step).mean.under("measure/average_sharpness")
        if self.steps:
            values["measure/worst_case_sharpness_low"] = worst_case_sharpness(*given, self.steps)
        return values
