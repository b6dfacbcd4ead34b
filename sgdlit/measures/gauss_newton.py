"""The Gauss–Newton part of the curvature: what of the sharpness a linearised network has."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_shares
from sgdlit.measures.curvature import CurvatureMeasure, top_of, work_of_top
from sgdlit.measures.lanczos import Eigenpairs, expected_products, lanczos, start_vector, work_of_lanczos
from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.products import GaussNewtonProducts, LossFunction
from sgdlit.measures.sharpness import sharpness_of
from sgdlit.measures.work import Sizes, Works

_PRODUCT = 0.65  # of the price of a product with H


def gauss_newton_sharpness(
    network: nn.Module,
    loss: LossFunction,
    batches: Iterable[Batch],
    count: int = 1,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Eigenpairs:
    """The largest eigenvalues of G = mean JᵀH_fJ, ``[k]``, unit C/θ²: for cross-entropy of the Fisher matrix.

    The empirical Fisher matrix, the second moment of the examples' gradients, is another one: see
    :func:`sgdlit.measures.covariance_spectrum.gradient_gram`.

    Args:
        network: see :class:`sgdlit.measures.products.GaussNewtonProducts`, as ``loss`` and ``batches``.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs and targets of all examples.
        count: k.
        tolerance: relative error of each.
        seed: of the start vector.
    """
    return sharpness_of(GaussNewtonProducts(network, loss, batches), count, tolerance, seed)


def gauss_newton_top(run: RunAtStep, tolerance: float) -> Eigenpairs:
    """λ₁(G) of the measured examples; ask for it by ``run.once``."""
    matrix = GaussNewtonProducts(run.network, run.loss, run.examples)
    like = matrix.flat(matrix.parameters).detach()
    start = start_vector(like, run.data.seed, "Gauss-Newton sharpness", run.step)
    return replace(lanczos(matrix, start, 1, tolerance), examples=matrix.examples)


class GaussNewtonSharpness(CurvatureMeasure):
    """``measure/gauss_newton_sharpness`` λ₁ of the Gauss–Newton matrix G of the examples, and
    ``measure/sharpness_beyond_gauss_newton`` λ₁(H) − λ₁(G), what the network's own curvature adds.

    There is no value where the Lanczos iteration did not converge: ``measure/gauss_newton_converged`` is 0.

    Args:
        tolerance: relative error of both eigenvalues; λ₁(H) is computed once where it is that of
            :class:`sgdlit.measures.sharpness.Sharpness`.
        cadence: see :class:`Measure`.
    """

    formula = "λ₁(G), G = (1/n)Σ JᵢᵀH_fJᵢ (the Fisher matrix of cross-entropy); λ₁(H) − λ₁(G)"
    answers = "which part of the sharpness does the linearised network have"
    price = "(1 + 1.3 m) n for m products, and that of Sharpness; 0 of the latter beside it"
    logged = (
        "measure/gauss_newton_sharpness",
        "measure/gauss_newton_converged",
        "measure/sharpness_beyond_gauss_newton",
    )
    needs = ("examples",)

    def __init__(self, tolerance: float = 1e-3, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_shares(type(self).__name__, tolerance=tolerance)
        self.tolerance = tolerance

    def work(self, sizes: Sizes) -> Works:
        n, products = sizes.examples, expected_products(1, self.tolerance, sizes.parameters)
        own = work_of_lanczos(products, n)
        own = own._replace(gradients=n, products=_PRODUCT * own.products)
        return work_of_top(sizes, 1, self.tolerance) | {(gauss_newton_top, self.tolerance): own}

    def take(self, run: RunAtStep, member: int) -> Values:
        found = run.once(gauss_newton_top, self.tolerance)
        values = {"measure/gauss_newton_converged": float(found.converged)}
        if not found.converged:
            return values
        largest = float(found.values[0])
        values["measure/gauss_newton_sharpness"] = largest
        whole = run.once(top_of, 1, self.tolerance)
        if whole.converged:
            values["measure/sharpness_beyond_gauss_newton"] = float(whole.values[0]) - largest
        return values
