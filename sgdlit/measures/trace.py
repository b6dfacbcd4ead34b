"""Trace and Frobenius norm of the Hessian, and the effective rank that follows from them."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_counts
from sgdlit.measures.curvature import ProbedMeasure, hessian_of, work_of_hessian
from sgdlit.measures.estimate import Estimate, mean_of, signs
from sgdlit.measures.mean_gradient import by_layer, trained_parameters
from sgdlit.measures.measure import RunAtStep, Values, layers_of_run
from sgdlit.measures.products import HessianProducts, LossFunction, Products
from sgdlit.measures.work import DRAWN, Sizes, Work, Works


class TraceEstimate(NamedTuple):
    """What :func:`trace` finds.

    Attributes:
        trace: tr H, unit C/θ².
        squared_norm: ‖H‖²_F, unit C²/θ⁴.
        by_parameter: of the diagonal block of each parameter, by its place; their sum is the trace.
        draws: zᵀHz of each probe, float64 ``[m]``.
        examples: N.
        products: with H, one for each probe.
    """

    trace: Estimate
    squared_norm: Estimate
    by_parameter: list[Estimate]
    draws: Tensor
    examples: int
    products: int

    @property
    def effective_rank(self) -> float:
        """(tr H)²/‖H‖²_F, no unit: a quotient of two estimates, whose intervals stand beside them."""
        return self.trace.value**2 / self.squared_norm.value if self.squared_norm.value else float("nan")


def trace(
    network: nn.Module, loss: LossFunction, batches: Iterable[Batch], probes: int = 12, seed: int = 0
) -> TraceEstimate:
    """tr H = E zᵀHz and ‖H‖²_F = E‖Hz‖² over z with entries ±1, and intervals.

    The variance of the trace is 2(‖H‖²_F − ΣH_ii²)/m: exact for a diagonal H.

    Cost: (1 + 2m) gradients of every example for m probes. Source: Hutchinson 1990.

    Args:
        network: see :class:`sgdlit.measures.products.Products`, as ``loss`` and ``batches``.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs and targets of all examples.
        probes: m; 2 or more for an interval.
        seed: of the probes.
    """
    return trace_of(HessianProducts(network, loss, batches), probes, seed)


def trace_of(matrix: Products, probes: int = 12, seed: int = 0, step: int = 0) -> TraceEstimate:
    """The same, of products with any second derivative of a network."""
    require_counts(probes=probes)
    like = matrix.flat(matrix.parameters).detach()
    blocks, squares = [], []
    for number in range(probes):
        z = signs(like, seed, "trace", step, number)
        product = matrix @ z
        blocks.append(torch.stack([part.double().sum() for part in matrix.parts(z * product)]))
        squares.append(product.double().square().sum())
    by_parameter = torch.stack(blocks)  # [m, tensors]
    draws = by_parameter.sum(1)
    each = [mean_of(column) for column in by_parameter.unbind(1)]
    norm = mean_of(torch.stack(squares))
    return TraceEstimate(mean_of(draws), norm, each, draws, matrix.examples, probes)


class Trace(ProbedMeasure):
    """``measure/trace`` tr H, ``measure/squared_frobenius_norm`` ‖H‖²_F, both with ``_low`` and ``_high``,
    ``measure/hessian_effective_rank`` (tr H)²/‖H‖²_F, and ``measure/trace/LAYER`` of the diagonal block of
    each layer, from the same probes; of the examples.

    Args:
        probes: random vectors.
        cadence: see :class:`Measure`.
    """

    formula = "tr H = E zᵀHz, ‖H‖²_F = E‖Hz‖², (tr H)²/‖H‖²_F"
    answers = "how large is the curvature on average, and over how many directions is it spread"
    price = "(1 + 2 m) n for m probes; 2 m n beside another measure of curvature"
    logged = (
        "measure/trace",
        "measure/trace_low",
        "measure/trace_high",
        "measure/squared_frobenius_norm",
        "measure/squared_frobenius_norm_low",
        "measure/squared_frobenius_norm_high",
        "measure/hessian_effective_rank",
        "measure/trace/LAYER",
    )
    needs = ("examples",)

    def work(self, sizes: Sizes) -> Works:
        own = Work(products=self.probes * sizes.examples, vectors=self.probes * DRAWN, calls=2 * self.probes)
        return work_of_hessian(sizes) | {self: own}

    def take(self, run: RunAtStep, member: int) -> Values:
        found = trace_of(run.once(hessian_of), self.probes, run.data.seed, run.step)
        norm = found.squared_norm.under("measure/squared_frobenius_norm")
        rank = {"measure/hessian_effective_rank": found.effective_rank}
        blocks = dict(zip(trained_parameters(run.network), found.by_parameter, strict=True))
        layers = {
            f"measure/trace/{layer}": sum(one.value for one in own.values())
            for layer, own in by_layer(run.once(layers_of_run), blocks).items()
        }
        return found.trace.under("measure/trace") | norm | rank | layers
