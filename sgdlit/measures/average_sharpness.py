"""Average sharpness: how much noise in the parameters raises the loss."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key, normal
from sgdlit.measures.estimate import Estimate, mean_of
from sgdlit.measures.from_scripts import gathered
from sgdlit.measures.mean_gradient import MeanLoss, mean_cost, trained_parameters
from sgdlit.measures.measure import Measure, RunAtStep, Values, require_positive
from sgdlit.measures.undisturbed import moved
from sgdlit.measures.work import Sizes, Work, Works


def average_sharpness(
    network: nn.Module,
    loss: MeanLoss,
    batches: Iterable[Batch],
    radius: float = 0.05,
    draws: int = 12,
    adaptive: bool = True,
    seed: int = 0,
    step: int = 0,
) -> Estimate:
    """E C(θ + ρ|θ| ∘ z) − C(θ) over z ~ N(0, I), with its interval, unit C; nothing of the network changes.

    Noise in proportion to each parameter is not changed by a rescaling of layers that leaves the function as
    it is; without ``adaptive`` it is ρz, and for small ρ the value ½ρ² tr H. Pairs z, −z are averaged first,
    so that the slope takes no part.

    Cost: (1 + 2m)/3 gradients of every example for m pairs. Source: Andriushchenko et al. 2023, 2302.07011.

    Args:
        network: in the mode in which it is.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]`` of all examples.
        radius: ρ.
        draws: m, pairs z, −z; 2 or more for an interval.
        adaptive: whether the noise is in proportion to |θ|.
        seed: of the draws.
        step: at which they are drawn.
    """
    batches = gathered(batches)
    here = {name: p.detach().clone() for name, p in trained_parameters(network).items()}
    before = mean_cost(network, loss, batches)
    key = derive_key(seed, "average sharpness")
    rises = []
    for number in range(draws):
        z = normal(key, torch.tensor(step), sum(p.numel() for p in here.values()), number, torch.float64)
        both = [_cost_at(network, loss, batches, here, sign * radius * z, adaptive) for sign in (1, -1)]
        rises.append(sum(both) / 2 - before)
    return mean_of(torch.tensor(rises, dtype=torch.float64))


def _cost_at(
    network: nn.Module,
    loss: MeanLoss,
    batches: Iterable[Batch],
    here: dict[str, Tensor],
    noise: Tensor,
    adaptive: bool,
) -> float:
    parts = noise.split([p.numel() for p in here.values()])
    there = {
        name: p + part.view(p.shape).to(p) * (p.abs() if adaptive else 1)
        for (name, p), part in zip(here.items(), parts, strict=True)
    }
    with moved(network, there):
        return mean_cost(network, loss, batches)


class AverageSharpness(Measure):
    """``measure/average_sharpness`` E C(θ + ρ|θ| ∘ z) − C(θ), with ``_low`` and ``_high``, of the examples.

    Args:
        radius: ρ.
        draws: pairs of random directions z, −z.
        adaptive: whether the noise is in proportion to |θ|; else it is ρz.
        cadence: see :class:`Measure`.
    """

    formula = "E C(θ + ρ|θ| ∘ z) − C(θ), z ~ N(0, I)"
    answers = "how much does noise in the weights raise the loss, whatever their scale"
    price = "(1 + 2 m) n/3 for m pairs z, −z"
    logged = (
        "measure/average_sharpness",
        "measure/average_sharpness_low",
        "measure/average_sharpness_high",
    )
    needs = ("examples",)
    small = ({"draws": 3}, {"draws": 2, "adaptive": False})

    def __init__(self, radius: float = 0.05, draws: int = 12, adaptive: bool = True, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_positive("AverageSharpness", draws=draws)
        if not radius > 0:
            raise UserError(f"AverageSharpness.radius: {radius} is not possible; allowed: above 0")
        self.radius, self.draws, self.adaptive = radius, draws, adaptive

    def work(self, sizes: Sizes) -> Works:
        return {self: Work(forwards=(1 + 2 * self.draws) * sizes.examples)}

    def take(self, run: RunAtStep, member: int) -> Values:
        found = average_sharpness(
            run.network,
            run.loss,
            run.examples,
            self.radius,
            self.draws,
            self.adaptive,
            run.data.seed,
            run.step,
        )
        return found.under("measure/average_sharpness")
