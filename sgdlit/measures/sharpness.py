"""Sharpness: the largest eigenvalues of the Hessian, and the largest against what the optimizer can stand."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn
from torch.optim import SGD

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_counts, require_shares
from sgdlit.foundations.errors import UserError
from sgdlit.measures.curvature import CurvatureMeasure, to_start_from, top_of, work_of_top
from sgdlit.measures.earlier import Earlier
from sgdlit.measures.lanczos import Eigenpairs, lanczos, start_vector
from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.products import HessianProducts, LossFunction, Products
from sgdlit.measures.stability_limit import stability_limit
from sgdlit.measures.work import Sizes, Works


def sharpness(
    network: nn.Module,
    loss: LossFunction,
    batches: Iterable[Batch],
    count: int = 1,
    tolerance: float = 1e-3,
    seed: int = 0,
    vectors: bool = False,
) -> Eigenpairs:
    """λ₁ ≥ … ≥ λ_k, the largest eigenvalues of the Hessian of the mean loss, ``[k]``; unit C/θ².

    They are the largest, not those of largest size; the smallest Ritz value stands beside them. Those of few
    examples are too large in expectation, since λ₁ is a convex function of the Hessian.

    Cost: about 8 products of three, then two gradients of every example for k = 1, 19 for k = 5.
    Source: Cohen et al. 2021, 2103.00065; for the algorithm :func:`sgdlit.measures.lanczos.lanczos`.

    Args:
        network: see :class:`sgdlit.measures.products.Products`, as ``loss`` and ``batches``.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs and targets of all examples.
        count: k.
        tolerance: relative error of each.
        seed: of the start vector.
        vectors: whether to return eigenvectors ``[P, k]``.
    """
    return sharpness_of(HessianProducts(network, loss, batches), count, tolerance, seed, vectors)


def sharpness_of(
    matrix: Products, count: int = 1, tolerance: float = 1e-3, seed: int = 0, vectors: bool = False
) -> Eigenpairs:
    """The same of products with any second derivative of a network."""
    like = matrix.flat(matrix.parameters).detach()
    start = start_vector(like, seed, "sharpness", 0)
    found = lanczos(matrix, start, count, tolerance, vectors=vectors)
    return replace(found, examples=matrix.examples)


class Sharpness(CurvatureMeasure):
    """``measure/sharpness`` λ₁ of the Hessian, further ones as ``measure/sharpness_2`` …, of the examples.

    Beside it: ``measure/sharpness_converged`` 1 or 0, with no value where it is 0 but the lower bound
    ``measure/sharpness_low``; ``measure/sharpness_residual``; ``measure/smallest_ritz_value``, the smallest
    Ritz value; and, where the optimizer's limit is known, ``measure/lr_times_sharpness`` ε(λ₁ + weight
    decay), ``measure/sharpness_over_limit``, the same over the limit: 1 at the edge of stability, and
    ``measure/sharpness_limit``, the λ₁ at that edge.

    Args:
        count: how many eigenvalues.
        tolerance: relative error of each.
        warm: of several eigenvalues, start from the eigenvectors of the step before at which it was taken,
            and the Ritz vector that follows, which checkpoints keep: one or two products fewer. A direction
            that was not among them may become the sharpest unseen. One eigenvalue starts the same always.
        cadence: see :class:`Measure`.
    """

    formula = "λ₁ = max vᵀHv/‖v‖², further eigenvalues; ε(λ₁ + weight decay) against 2 and its like"
    answers = "how sharp is the loss, and how close is the step to the edge of stability"
    price = "(1 + 2 m) n, with about 6 products m for one eigenvalue, 19 for five"
    logged = (
        "measure/sharpness",
        "measure/sharpness_K",
        "measure/sharpness_low",
        "measure/sharpness_converged",
        "measure/sharpness_residual",
        "measure/smallest_ritz_value",
        "measure/lr_times_sharpness",
        "measure/sharpness_over_limit",
        "measure/sharpness_limit",
    )
    needs = ("examples", "optimizer")
    small = ({}, {"count": 2, "warm": True})
    headline = "measure/sharpness"

    def __init__(self, count: int = 1, tolerance: float = 1e-3, warm: bool = False, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts(type(self).__name__, count=count)
        require_shares(type(self).__name__, tolerance=tolerance)
        self.count, self.tolerance, self.warm = count, tolerance, warm and count > 1
        self._earlier = Earlier()  # vectors [P, count + 1]

    def work(self, sizes: Sizes) -> Works:
        return work_of_top(sizes, self.count, self.tolerance)

    def take(self, run: RunAtStep, member: int) -> Values:
        top = self._top(run, member)
        found = {"measure/sharpness_converged": float(top.converged)}
        if not top.converged:
            low = float(top.values[0])
            return found | ({"measure/sharpness_low": low} if low == low else {})
        for i, value in enumerate(top.values.tolist(), start=1):
            found["measure/sharpness" if i == 1 else f"measure/sharpness_{i}"] = value
        found["measure/sharpness_residual"] = float(top.residuals[0])
        found["measure/smallest_ritz_value"] = top.smallest
        return found | against_the_limit(run, found["measure/sharpness"])

    def _top(self, run: RunAtStep, member: int) -> Eigenpairs:
        old = self._earlier.before(member, run.step) if self.warm else None
        if old is None:
            top = run.once(top_of, self.count, self.tolerance)
        else:
            top = run.once(top_of, self.count, self.tolerance, old[1])
        if self.warm and top.converged:
            self._earlier.keep(member, run.step, to_start_from(top))
        return top

    def state(self, member: int) -> dict[str, Any]:
        return self._earlier.state(member) if self.warm else {}

    def restore(self, states: list[dict[str, Any]]) -> None:
        self._earlier.restore(states)


def against_the_limit(run: RunAtStep, largest: float) -> Values:
    """ε(λ₁ + weight decay), that over the optimizer's limit, and the λ₁ at the limit; nothing where it is
    not known of SGD."""
    if not isinstance(run.optimizer, SGD):
        return {}
    try:
        limit = stability_limit(run.optimizer, run.gradient_factor)
    except UserError:
        return {}
    value = limit.lr_times(largest)
    return {
        "measure/lr_times_sharpness": value,
        "measure/sharpness_over_limit": value / limit.limit,
        "measure/sharpness_limit": limit.sharpness,
    }
