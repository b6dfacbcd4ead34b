"""The local learning coefficient: how fast the volume of parameters with a small loss shrinks around θ."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_above_zero, require_counts
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import t_interval
from sgdlit.foundations.philox import derive_key, integers, normal
from sgdlit.measures.from_scripts import LossOfEach, gathered
from sgdlit.measures.mean_gradient import (
    MeanGradient,
    mean_cost,
    mean_gradient,
    require_examples,
    trained_parameters,
)
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.undisturbed import moved
from sgdlit.measures.work import DRAWN, Sizes, Work, Works

_CHAINS = 4  # at least, so that they can be compared
_EVERY = 10  # draws between two looks at all examples, where steps look at minibatches


class LearningCoefficient(NamedTuple):
    """What :func:`learning_coefficient` finds.

    Attributes:
        value: λ̂, no unit; negative where the chains found lower losses than at θ.
        low: of its 95 % interval, Student's over chains.
        high: of it.
        mixing: R̂ of the chains' losses; they have forgotten where they began where it is below about 1.1.
        each: λ̂ of each chain, float64 ``[chains]``.
        diverged: chains whose loss became infinite or NaN; they are left out.
    """

    value: float
    low: float
    high: float
    mixing: float
    each: Tensor
    diverged: int


def learning_coefficient(
    network: nn.Module,
    loss: LossOfEach,
    batches: Iterable[Batch],
    step_size: float = 1e-5,
    localisation: float = 100.0,
    steps: int = 500,
    burn_in: int = 250,
    chains: int = 4,
    batch_size: int | None = None,
    seed: int = 0,
    step: int = 0,
) -> LearningCoefficient:
    """λ̂ = nβ(E C(w) − C(θ)), nβ = n/ln n, over w with density ∝ exp(−nβC(w) − γ‖w − θ‖²/2).

    Each chain is Langevin's: w ← w − (η/2)(nβ∇Ĉ(w) + γ(w − θ)) + √η·ξ, with its own key. λ̂ is P/2 at a
    regular minimum, and less where the loss is degenerate. It depends on η, whose error is of first order,
    and on γ, which holds the chain at θ: in a direction of curvature h it counts ½·nβh/(nβh + γ).

    Cost: chains·(burn_in + steps) gradients of a minibatch each, and, with minibatches, a third of a gradient
    of every example for every tenth draw; C(θ) and E C are over all examples. Source: Lau et al. 2023,
    2308.12108, equation 15 and algorithm 1.

    Args:
        network: at a minimum, in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs and targets of all n examples.
        step_size: η.
        localisation: γ, above 0.
        steps: draws of each chain.
        burn_in: steps before them.
        chains: four or more.
        batch_size: of ∇Ĉ; None for all examples.
        seed: of the noise and the minibatches, with ``step``.
        step: updates made.

    Raises:
        UserError: an argument that is not possible; fewer than three examples; every chain diverged.
    """
    _check("learning_coefficient", step_size, localisation, steps, burn_in, chains, batch_size)
    examples = gathered(batches)
    inputs, targets = (torch.cat([batch[k] for batch in examples]) for k in range(2))
    require_examples(len(inputs), 3)
    heat = len(inputs) / math.log(len(inputs))
    start = {name: p.detach().clone() for name, p in trained_parameters(network).items()}
    here = mean_cost(network, loss, examples)
    found = []
    for chain in range(chains):
        key = derive_key(seed, f"learning coefficient {chain}")
        w, costs = {name: p.clone() for name, p in start.items()}, []
        for t in range(burn_in + steps):
            drawn = torch.tensor(step * (burn_in + steps) + t)
            with moved(network, w):
                if batch_size is None:
                    gradient = mean_gradient(network, loss, examples)
                else:
                    chosen = integers(key, drawn, batch_size, len(inputs), 1)
                    gradient = mean_gradient(network, loss, [(inputs[chosen], targets[chosen])])
                if t >= burn_in and (batch_size is None or (t - burn_in) % _EVERY == 0):
                    costs.append(gradient.cost if batch_size is None else mean_cost(network, loss, examples))
            _langevin(w, start, gradient, heat, step_size, localisation, normal_of(w, key, drawn))
            if not all(bool(value.isfinite().all()) for value in w.values()):
                costs = [math.nan]
                break
        found.append(torch.tensor(costs, dtype=torch.float64))
    return _summary([heat * (own - here) for own in found])


def normal_of(like: dict[str, Tensor], key: Any, drawn: Tensor) -> dict[str, Tensor]:
    """ξ, of the shapes of parameters by name."""
    sizes = [p.numel() for p in like.values()]
    noise = normal(key, drawn, sum(sizes), 0, torch.float64).split(sizes)
    return {name: part.view_as(p).to(p) for (name, p), part in zip(like.items(), noise, strict=True)}


def _langevin(
    w: dict[str, Tensor],
    start: dict[str, Tensor],
    gradient: MeanGradient,
    heat: float,
    step_size: float,
    localisation: float,
    noise: dict[str, Tensor],
) -> None:
    for name, own in w.items():
        slope = heat * gradient.gradient[name].to(own) + localisation * (own - start[name])
        own.sub_(slope, alpha=step_size / 2).add_(noise[name], alpha=step_size**0.5)


def _summary(chains: list[Tensor]) -> LearningCoefficient:
    fine = [own for own in chains if bool(own.isfinite().all())]
    if len(fine) < 2:
        raise UserError(
            f"learning_coefficient.step_size: {len(chains) - len(fine)} of {len(chains)} chains diverged; "
            "allowed: a smaller one"
        )
    draws = torch.stack(fine)
    each = draws.mean(1)
    low, high = t_interval(each.numpy())
    return LearningCoefficient(
        float(each.mean()), low, high, potential_scale_reduction(draws), each, len(chains) - len(fine)
    )


def potential_scale_reduction(draws: Tensor) -> float:
    """R̂ of chains ``[chains, draws]``, each cut into halves: √(pooled variance over that within), 1 where
    they cannot be told apart (Gelman et al. 2013, Bayesian data analysis, section 11.4); NaN of fewer than
    four draws."""
    half = draws.shape[1] // 2
    if half < 2:
        return math.nan
    halves = torch.cat([draws[:, :half], draws[:, half : 2 * half]])
    within, between = float(halves.var(1).mean()), float(halves.mean(1).var())
    return math.sqrt((half - 1) / half + between / within) if within else math.nan


def _check(
    owner: str,
    step_size: float,
    localisation: float,
    steps: int,
    burn_in: int,
    chains: int,
    batch_size: int | None,
) -> None:
    require_above_zero(owner, step_size=step_size, localisation=localisation)
    require_counts(owner, steps=steps, batch_size=batch_size)
    require_counts(owner, fewest=0, burn_in=burn_in)
    require_counts(owner, fewest=_CHAINS, chains=chains)


class LocalLearningCoefficient(Measure):
    """``measure/learning_coefficient`` λ̂ with ``_low`` and ``_high`` over chains, and
    ``measure/learning_coefficient_mixing`` R̂, above about 1.1 where the chains have not run long enough; of
    the examples. It costs thousands of gradients, and is meant for ``measure --run`` when the run is over.

    Args:
        step_size: η, see :func:`learning_coefficient`, as the others.
        localisation: γ.
        steps: draws of each chain.
        burn_in: steps before them.
        chains: four or more.
        batch_size: of a step; None for all examples.
        cadence: see :class:`Measure`.
    """

    formula = "λ̂ = nβ(E C(w) − C(θ)), nβ = n/ln n, w ~ exp(−nβC(w) − γ‖w − θ‖²/2)"
    answers = "how many parameters does the loss around θ see: P/2 at a regular minimum, less at others"
    price = "chains (burn_in + steps) n"
    logged = (
        "measure/learning_coefficient",
        "measure/learning_coefficient_low",
        "measure/learning_coefficient_high",
        "measure/learning_coefficient_mixing",
    )
    needs = ("examples",)
    small = ({"steps": 4, "burn_in": 2},)
    headline = "measure/learning_coefficient"

    def __init__(
        self,
        step_size: float = 1e-5,
        localisation: float = 100.0,
        steps: int = 500,
        burn_in: int = 250,
        chains: int = 4,
        batch_size: int | None = None,
        **cadence: Any,
    ) -> None:
        super().__init__(**cadence)
        _check(type(self).__name__, step_size, localisation, steps, burn_in, chains, batch_size)
        self.step_size, self.localisation = step_size, localisation
        self.steps, self.burn_in, self.chains, self.batch_size = steps, burn_in, chains, batch_size

    def work(self, sizes: Sizes) -> Works:
        taken = self.chains * (self.burn_in + self.steps)
        looks = 1 if self.batch_size is None else 1 + self.chains * -(-self.steps // _EVERY)
        own = Work(
            forwards=looks * sizes.examples,
            gradients=taken * (self.batch_size or sizes.examples),
            vectors=taken * (DRAWN + 10),
        )
        return {self: own}

    def take(self, run: RunAtStep, member: int) -> Values:
        if run.examples.count < 3:
            return {}
        found = learning_coefficient(
            run.network,
            run.loss,
            run.examples,
            self.step_size,
            self.localisation,
            self.steps,
            self.burn_in,
            self.chains,
            self.batch_size,
            run.data.seed,
            run.step,
        )
        name = "measure/learning_coefficient"
        values = {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        return values | ({f"{name}_mixing": found.mixing} if found.mixing == found.mixing else {})
