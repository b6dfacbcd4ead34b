"""How fast the sharpest directions turn: the space of the top eigenvectors at one step against an earlier."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.arguments import require_counts, require_shares
from sgdlit.foundations.errors import UserError
from sgdlit.measures.curvature import CurvatureMeasure, top_of, work_of_top
from sgdlit.measures.earlier import Earlier
from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.work import Sizes, Works


def eigenspace_overlap(one: Tensor, other: Tensor) -> float:
    """‖UᵀV‖²_F/k of two orthonormal bases ``[P, k]``, no unit: 1 for the same space, k/P on average for two
    random ones. Bases of one space give the same number."""
    return float((one.double().T @ other.to(one).double()).square().sum()) / one.shape[1]


class EigenspaceOverlap(CurvatureMeasure):
    """``measure/eigenspace_overlap`` ‖U_tᵀU_s‖²_F/k of the k top eigenvectors of the Hessian at this step and
    at the last one at which their space was known, ``measure/eigenspace_age`` t − s steps before.

    ``measure/eigenspace_gap`` is λ_k − λ_{k+1}. The space counts as known where the eigenvalues converged and
    the gap is at least twice the residual; U is kept, in checkpoints too.

    Args:
        count: k; where it and the tolerance are those of :class:`Sharpness`, eigenvalues are computed once.
        tolerance: relative error of each eigenvalue.
        cadence: see :class:`Measure`.
    """

    formula = "‖U_tᵀU_s‖²_F/k, with U the k top eigenvectors of H at steps t and s < t"
    answers = "how fast do the sharpest directions turn"
    price = "that of Sharpness; 0 beside it"
    logged = ("measure/eigenspace_overlap", "measure/eigenspace_age", "measure/eigenspace_gap")
    needs = ("examples",)

    def __init__(self, count: int = 1, tolerance: float = 1e-3, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts(type(self).__name__, count=count)
        require_shares(type(self).__name__, tolerance=tolerance)
        self.count, self.tolerance, self._earlier = count, tolerance, Earlier()

    def check(self, network: nn.Module, data: KeyedData) -> None:
        super().check(network, data)
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        if trained <= self.count:
            raise UserError(
                f"EigenspaceOverlap: {self.count} of {trained} eigenvalues leave none beside their space; "
                "allowed: a network of more parameters"
            )

    def work(self, sizes: Sizes) -> Works:
        return work_of_top(sizes, self.count, self.tolerance)

    def take(self, run: RunAtStep, member: int) -> Values:
        top = run.once(top_of, self.count, self.tolerance)
        found: Values = {"measure/eigenspace_gap": top.gap} if math.isfinite(top.gap) else {}
        if not top.converged or top.gap < 2 * float(top.residuals[-1]):
            return found
        assert isinstance(top.vectors, torch.Tensor), "top_of keeps them"
        earlier = self._earlier.before(member, run.step)
        self._earlier.keep(member, run.step, top.vectors)
        if earlier is not None:
            found["measure/eigenspace_overlap"] = eigenspace_overlap(top.vectors, earlier[1])
            found["measure/eigenspace_age"] = run.step - earlier[0]
        return found

    def state(self, member: int) -> dict[str, Any]:
        return self._earlier.state(member)

    def restore(self, states: list[dict[str, Any]]) -> None:
        self._earlier.restore(states)
