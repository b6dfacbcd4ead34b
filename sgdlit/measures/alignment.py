"""Alignment of the gradient with the top of the Hessian's spectrum."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_counts, require_shares
from sgdlit.foundations.errors import UserError
from sgdlit.measures.curvature import CurvatureMeasure, hessian_of, top_of, work_of_top
from sgdlit.measures.directional_sharpness import along_gradient, work_along_gradient
from sgdlit.measures.lanczos import Eigenpairs
from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.products import HessianProducts, LossFunction
from sgdlit.measures.sharpness import sharpness_of
from sgdlit.measures.work import Sizes, Works


def overlap(
    network: nn.Module, loss: LossFunction, batches: Iterable[Batch], count: int = 1, tolerance: float = 1e-3
) -> float:
    """‖Uᵀg‖²/‖g‖², the share of the squared gradient in the space U of the k top eigenvectors; no unit.

    Cost: that of k eigenvalues, see :func:`sgdlit.measures.sharpness.sharpness`.
    Source: Gur-Ari, Roberts & Dyer 2018, 1812.04754.

    Args:
        network: see :class:`sgdlit.measures.products.Products`, as ``loss`` and ``batches``.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs and targets of all examples.
        count: k.
        tolerance: relative error of each eigenvalue.

    Raises:
        UserError: eigenvalues that did not converge, or λ_k too close to λ_{k+1} for U to be known.
    """
    hessian = HessianProducts(network, loss, batches)
    return overlap_of(hessian, sharpness_of(hessian, count, tolerance, vectors=True))


def overlap_of(hessian: HessianProducts, top: Eigenpairs) -> float:
    """The same, of a Hessian's gradient and its top eigenvectors."""
    if not top.converged:
        raise UserError("overlap: the eigenvalues did not converge, so their space is not known")
    last = float(top.residuals[-1])
    if top.gap < 2 * last:
        raise UserError(
            f"overlap: λ_k − λ_(k+1) = {top.gap:.3g} is less than twice the residual {last:.3g}, so the "
            "space of the k top eigenvectors is not known; allowed: another count, or a smaller tolerance"
        )
    assert top.vectors is not None, "the eigenvectors were asked for"
    g = hessian.gradient
    return float((top.vectors.T @ g).double().square().sum() / torch.dot(g, g).double())


def alignment(
    network: nn.Module, loss: LossFunction, batches: Iterable[Batch], tolerance: float = 1e-3
) -> float:
    """gᵀHg/(λ₁‖g‖²), curvature along the gradient over the largest; no unit, at most 1 if λ₁ > 0.

    Cost: that of one eigenvalue and a product. Arguments as for :func:`overlap`.
    """
    hessian = HessianProducts(network, loss, batches)
    g, largest = hessian.gradient, float(sharpness_of(hessian, 1, tolerance).values[0])
    return float(torch.dot(g, hessian @ g).double() / torch.dot(g, g).double()) / largest


class Alignment(CurvatureMeasure):
    """``measure/alignment`` gᵀHg/(λ₁‖g‖²) and ``measure/overlap`` ‖Uᵀg‖²/‖g‖², with g the gradient of the
    examples and U the top eigenvectors.

    They have no value where g = 0, where eigenvalues did not converge, or, for the overlap, where the space
    is not known: λ_k − λ_{k+1} below twice the residual.

    Args:
        count: k, of the space; where it and the tolerance are those of :class:`Sharpness`, eigenvalues are
            computed once.
        tolerance: relative error of each eigenvalue.
        cadence: see :class:`Measure`.
    """

    formula = "gᵀHg/(λ₁‖g‖²) and ‖Uᵀg‖²/‖g‖², with U the top eigenvectors of H"
    answers = "does the gradient lie in the sharpest directions"
    price = "that of Sharpness, and 2 n; 2 n beside it"
    logged = ("measure/alignment", "measure/overlap")
    needs = ("examples",)

    def __init__(self, count: int = 1, tolerance: float = 1e-3, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts(type(self).__name__, count=count)
        require_shares(type(self).__name__, tolerance=tolerance)
        self.count, self.tolerance = count, tolerance

    def work(self, sizes: Sizes) -> Works:
        return work_of_top(sizes, self.count, self.tolerance) | work_along_gradient(sizes)

    def take(self, run: RunAtStep, member: int) -> Values:
        top, along = run.once(top_of, self.count, self.tolerance), run.once(along_gradient)
        if not top.converged or along != along:
            return {}
        found = {"measure/alignment": along / float(top.values[0])}
        try:
            return found | {"measure/overlap": overlap_of(run.once(hessian_of), top)}
        except UserError:
            return found
