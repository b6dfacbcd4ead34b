"""Directional sharpness: the curvature along one direction."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.measures.curvature import CurvatureMeasure, hessian_of, work_of_hessian
from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.products import HessianProducts, LossFunction
from sgdlit.measures.work import Sizes, Work, Works


def directional_sharpness(
    network: nn.Module, loss: LossFunction, batches: Iterable[Batch], direction: Tensor | None = None
) -> float:
    """dᵀHd/‖d‖², unit C/θ², at most λ₁; NaN for d = 0.

    Cost: three gradients of every example. Source: Pan & Li 2023, 2306.00204.

    Args:
        network: see :class:`sgdlit.measures.products.Products`, as ``loss`` and ``batches``.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs and targets of all examples.
        direction: d, ``[P]``; None for the gradient of the same examples.
    """
    return directional_sharpness_of(HessianProducts(network, loss, batches), direction)


def directional_sharpness_of(hessian: HessianProducts, direction: Tensor | None = None) -> float:
    """The same, of products with a Hessian."""
    d = hessian.gradient if direction is None else direction.to(hessian.gradient)
    return float(torch.dot(d, hessian @ d).double() / torch.dot(d, d).double())


def along_gradient(run: RunAtStep) -> float:
    """gᵀHg/‖g‖² of the measured examples; ask for it by ``run.once``."""
    return directional_sharpness_of(run.once(hessian_of))


def work_along_gradient(sizes: Sizes) -> Works:
    """That of :func:`along_gradient`: one product."""
    return work_of_hessian(sizes) | {(along_gradient,): Work(products=sizes.examples)}


class DirectionalSharpness(CurvatureMeasure):
    """``measure/directional_sharpness`` gᵀHg/‖g‖² along the gradient g of the examples; none where g = 0."""

    formula = "gᵀHg/‖g‖²"
    answers = "what curvature does a step along the gradient meet"
    price = "3 n; 2 n beside another measure of curvature"
    logged = ("measure/directional_sharpness",)
    needs = ("examples",)

    def work(self, sizes: Sizes) -> Works:
        return work_along_gradient(sizes)

    def take(self, run: RunAtStep, member: int) -> Values:
        value = run.once(along_gradient)
        return {"measure/directional_sharpness": value} if value == value else {}
