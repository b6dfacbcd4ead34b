"""The noise of gradients seen by the curvature: tr(HΣ), and the noise scale of a quadratic."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_counts
from sgdlit.measures.curvature import ProbedMeasure, hessian_of, work_of_hessian
from sgdlit.measures.estimate import Estimate, mean_of, signs
from sgdlit.measures.example_gradients import refuse_company
from sgdlit.measures.from_scripts import LossOfEach, of_each
from sgdlit.measures.mean_gradient import gradient_of
from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.products import HessianProducts
from sgdlit.measures.undisturbed import outputs_of, preserved, refuse_coupled_examples
from sgdlit.measures.work import Sizes, Work, Works, work_of_company
from sgdlit.objectives import Loss


class CurvatureNoise(NamedTuple):
    """What :func:`curvature_noise` finds.

    Attributes:
        trace: tr(HΣ̂), unit C³/θ⁴, with Σ̂ = Σ_i(g_i − ĝ)(g_i − ĝ)ᵀ/n.
        along_gradient: ĝᵀHĝ, of the same unit.
        draws: vᵀHv of each probe, float64 ``[m]``.
    """

    trace: Estimate
    along_gradient: float
    draws: Tensor

    @property
    def noise_scale(self) -> float:
        """B_noise = tr(HΣ̂)/(ĝᵀHĝ), in examples; NaN where the gradient meets no curvature."""
        return self.trace.value / self.along_gradient if self.along_gradient else float("nan")


def curvature_noise(
    network: nn.Module, loss: LossOfEach, batches: Iterable[Batch], probes: int = 12, seed: int = 0
) -> CurvatureNoise:
    """tr(HΣ̂) = E vᵀHv with v = n^(−1/2)·Σ_i ξ_i(g_i − ĝ), ξ_i = ±1, and B_noise = tr(HΣ̂)/(ĝᵀHĝ).

    B_noise is the batch size at which noise and gradient change the cost of a quadratic alike in a step
    (McCandlish et al. 2018, 1812.06162, equation 2.7). v is one gradient of a loss with signs as weights.

    Cost: three gradients of every example a probe, and three more.

    Args:
        network: in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> one loss for each example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]`` of any sizes, two examples or more.
        probes: m; 2 or more for an interval.
        seed: of the signs.

    Raises:
        UserError: a loss that has no value per example; outputs of an example that depend on its batch.
    """
    return curvature_noise_of(HessianProducts(network, loss, batches), loss, probes, seed)


def curvature_noise_of(
    hessian: HessianProducts, loss: LossOfEach, probes: int = 12, seed: int = 0, step: int = 0
) -> CurvatureNoise:
    """The same, of products with a Hessian."""
    require_counts(probes=probes)
    loss = of_each(loss)
    refuse_coupled_examples(hessian.network)
    with preserved(hessian.network) as network:
        refuse_company(network, loss, *hessian.batches[0])
    n, g = hessian.examples, hessian.gradient
    draws = []
    for number in range(probes):
        xi = signs(torch.empty(n, dtype=torch.float64), seed, "curvature noise", step, number)
        v = signed_gradient(hessian, loss, xi) - float(xi.mean()) * n**0.5 * g
        draws.append(torch.dot(v, hessian @ v).double())
    along = float(torch.dot(g, hessian @ g).double())
    each = torch.stack(draws)
    return CurvatureNoise(mean_of(each), along, each)


def signed_gradient(hessian: HessianProducts, loss: Loss, xi: Tensor) -> Tensor:
    """n^(−1/2)·Σ_i ξ_i g_i, ``[P]``, of the examples of a Hessian.

    Args:
        hessian: whose network, parameters and examples.
        loss: of each example.
        xi: weights, float64 ``[n]``.
    """
    found = torch.zeros_like(hessian.gradient)
    weights = xi.to(found).split([len(inputs) for inputs, _ in hessian.batches])
    with preserved(hessian.network) as network, torch.enable_grad():
        for (inputs, targets), own in zip(hessian.batches, weights, strict=True):
            total = (loss.per_example(outputs_of(network, inputs), targets) * own).sum()
            found += hessian.flat(gradient_of(total, hessian.parameters))
    return found / len(xi) ** 0.5


class CurvatureNoiseScale(ProbedMeasure):
    """``measure/curvature_noise_scale`` B_noise = tr(HΣ̂)/(ĝᵀHĝ) of the examples, in examples, and
    ``measure/hessian_noise`` tr(HΣ̂) with ``_low`` and ``_high``.

    The first has no value where ĝᵀHĝ ≤ 0.

    Args:
        probes: random signs of the examples.
        cadence: see :class:`Measure`.
    """

    formula = "tr(HΣ) = E vᵀHv, v = n^(−1/2)·Σξ_i(g_i − ĝ), ξ = ±1; B_noise = tr(HΣ)/(ĝᵀHĝ)"
    answers = "which batch size is useful on the quadratic that the network sees"
    price = "(3 + 3 m) n for m probes"
    logged = (
        "measure/curvature_noise_scale",
        "measure/hessian_noise",
        "measure/hessian_noise_low",
        "measure/hessian_noise_high",
    )
    needs = ("examples",)

    def work(self, sizes: Sizes) -> Works:
        n, m = sizes.examples, self.probes
        company = work_of_company(min(n, sizes.chunk_size))
        own = Work(company.forwards, company.gradients + m * n, products=(m + 1) * n)
        return work_of_hessian(sizes) | {self: own}

    def take(self, run: RunAtStep, member: int) -> Values:
        found = curvature_noise_of(run.once(hessian_of), run.loss, self.probes, run.data.seed, run.step)
        values = found.trace.under("measure/hessian_noise")
        if found.along_gradient > 0:
            values["measure/curvature_noise_scale"] = found.noise_scale
        return values
