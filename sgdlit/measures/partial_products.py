"""Singular values and ranks of the products of successive layers of a deep linear network."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.arguments import require_counts
from sgdlit.foundations.errors import UserError
from sgdlit.measures.balancedness import deep_linear_weights
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.singular_values import require_rank_tolerance, spectrum_of


def partial_products(weights: Sequence[Tensor]) -> dict[tuple[int, int], Tensor]:
    """W_j … W_i of every two layers i < j, float64 ``[n_j, n_{i−1}]``, by (i, j), counted from 1.

    Args:
        weights: W_l, ``[n_l, n_{l−1}]``, of the product W_L … W_1.
    """
    found = {}
    for i, first in enumerate(weights, start=1):
        product = first.detach().double()
        for j in range(i + 1, len(weights) + 1):
            product = weights[j - 1].detach().double() @ product
            found[i, j] = product
    return found


class PartialProducts(Measure):
    """``measure/singular_value_K/layers_I_to_J``, K = 1 … count, of the products W_J … W_I of a deep linear
    network, with their ``measure/stable_rank/layers_I_to_J``, ``measure/effective_rank/layers_I_to_J`` and
    ``measure/numerical_rank/layers_I_to_J``.

    Single layers are those of :class:`sgdlit.measures.singular_values.SingularValues`.

    Args:
        count: singular values that are logged of each.
        whole: only the product of all layers.
        rank_tolerance: the numerical rank counts singular values above this times the largest.
        cadence: see :class:`Measure`.
    """

    formula = "σ_k of W_j … W_i, i < j, and three kinds of rank"
    answers = "which products of layers become low-rank, and in which order do their directions grow"
    price = "0, and a singular value decomposition of each product"
    logged = (
        "measure/singular_value_K/layers_I_to_J",
        "measure/stable_rank/layers_I_to_J",
        "measure/effective_rank/layers_I_to_J",
        "measure/numerical_rank/layers_I_to_J",
    )
    small = ({}, {"count": 2, "whole": True})

    def __init__(
        self, count: int = 1, whole: bool = False, rank_tolerance: float = 1e-3, **cadence: Any
    ) -> None:
        super().__init__(**cadence)
        require_counts("PartialProducts", count=count)
        require_rank_tolerance("PartialProducts", rank_tolerance)
        self.count, self.whole, self.rank_tolerance = count, whole, rank_tolerance

    def check(self, network: nn.Module, data: KeyedData) -> None:
        if len(deep_linear_weights(network)) < 2:
            raise UserError(
                f"PartialProducts: {type(network).__name__} is no product of two matrices or more; allowed: "
                "sgdlit.models.DeepLinear, alone or in a sgdlit.models.sensing.BilinearForm"
            )

    def take(self, run: RunAtStep, member: int) -> Values:
        weights = deep_linear_weights(run.network)
        found: Values = {}
        for (i, j), matrix in partial_products(weights).items():
            chosen = not self.whole or (i, j) == (1, len(weights))
            if chosen and bool(matrix.isfinite().all()):
                found |= spectrum_of(matrix, f"layers_{i}_to_{j}", self.count, self.rank_tolerance)
        return found
