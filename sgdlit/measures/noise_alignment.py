"""Alignment of noise and curvature: is the covariance of the gradients like the Hessian?"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_counts
from sgdlit.measures.covariance_spectrum import covariance_eigenvalues, gradient_gram, spectrum_of
from sgdlit.measures.curvature import ProbedMeasure, hessian_of, work_of_hessian
from sgdlit.measures.curvature_noise import curvature_noise_of
from sgdlit.measures.estimate import Estimate
from sgdlit.measures.from_scripts import LossOfEach, gathered, of_each
from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.products import HessianProducts
from sgdlit.measures.trace import trace_of
from sgdlit.measures.work import Sizes, Work, Works, work_of_company
from sgdlit.objectives import Loss


class NoiseAgainstCurvature(NamedTuple):
    """What :func:`noise_alignment` finds.

    Attributes:
        inner: tr(HΣ̂), unit C³/θ⁴.
        curvature: ‖H‖²_F, unit C²/θ⁴.
        noise: ‖Σ̂‖_F, unit C²/θ², exact.
    """

    inner: Estimate
    curvature: Estimate
    noise: float

    @property
    def cosine(self) -> float:
        """tr(HΣ̂)/(‖H‖_F‖Σ̂‖_F): a quotient of estimates, whose intervals stand beside them; NaN where a norm
        is 0."""
        norms = self.curvature.value**0.5 * self.noise
        return self.inner.value / norms if norms else float("nan")


def noise_alignment(
    network: nn.Module, loss: LossOfEach, batches: Iterable[Batch], probes: int = 12, seed: int = 0
) -> NoiseAgainstCurvature:
    """The cosine between H and Σ̂ = Σ_i(g_i − ĝ)(g_i − ĝ)ᵀ/n as vectors of their entries: 1 where Σ̂ ∝ H.

    Cost: (4 + 5m) gradients of every example for m probes, and n² inner products of gradients.

    Args:
        network: in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> one loss for each example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]`` of any sizes, two examples or more.
        probes: m; 2 or more for intervals.
        seed: of the probes.

    Raises:
        UserError: see :func:`sgdlit.measures.covariance_spectrum.gradient_gram`.
    """
    require_counts(probes=probes)
    loss, batches = of_each(loss), gathered(batches)
    spectrum = covariance_eigenvalues(gradient_gram(network, loss, batches))
    return _of(HessianProducts(network, loss, batches), loss, float(spectrum.norm()), probes, seed, 0)


def _of(
    hessian: HessianProducts, loss: Loss, noise: float, probes: int, seed: int, step: int
) -> NoiseAgainstCurvature:
    inner = curvature_noise_of(hessian, loss, probes, seed, step).trace
    return NoiseAgainstCurvature(inner, trace_of(hessian, probes, seed, step).squared_norm, noise)


class NoiseAlignment(ProbedMeasure):
    """``measure/noise_alignment`` tr(HΣ̂)/(‖H‖_F‖Σ̂‖_F) of the examples, a quotient of estimates without an
    interval of its own: those of its parts are those of ``CurvatureNoiseScale`` and ``Trace``.

    Args:
        probes: random signs, of examples and of parameters.
        cadence: see :class:`Measure`.
    """

    formula = "tr(HΣ)/(‖H‖_F‖Σ‖_F), Σ the covariance of the gradients of single examples"
    answers = "is the noise of gradients in proportion to the curvature"
    price = "(4 + 5 m) n for m probes, and n² inner products"
    logged = ("measure/noise_alignment",)
    needs = ("examples",)

    @property
    def looks_at_each(self) -> bool:
        return True

    def work(self, sizes: Sizes) -> Works:
        n, m = sizes.examples, self.probes
        spectrum = {(spectrum_of,): work_of_company(n, sizes.linear)._replace(example_gradients=n)}
        company = work_of_company(min(n, sizes.chunk_size))
        own = Work(company.forwards, company.gradients + m * n, products=(2 * m + 1) * n)
        return work_of_hessian(sizes) | spectrum | {self: own}

    def take(self, run: RunAtStep, member: int) -> Values:
        if run.examples.count < 2:
            return {}
        noise = float(torch.linalg.vector_norm(run.once(spectrum_of)))
        found = _of(run.once(hessian_of), run.loss, noise, self.probes, run.data.seed, run.step)
        return {"measure/noise_alignment": found.cosine} if found.cosine == found.cosine else {}
