"""Singular values of matrices, and three kinds of rank that they give."""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.arguments import require_counts, require_not_negative
from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed
from sgdlit.measures.lanczos import lanczos, start_vector
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.relative_error import SensingMeasure, missed

_LARGE = 256  # the smaller side from which on few values cost less than all
_SHARE = 16  # so much of it are the values that are few, and the products that are worth trying


def singular_values(matrix: Tensor, count: int | None = None) -> Tensor:
    """The ``count`` largest singular values of a matrix (m, n), from the largest down; None for all."""
    require_counts(count=count)
    exact = matrix if matrix.dtype in (torch.float32, torch.float64) else matrix.float()
    return torch.linalg.svdvals(exact)[:count]


class _Gram:
    """MᵀM, by its products with vectors."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def __matmul__(self, vector: Tensor) -> Tensor:
        return self.matrix.T @ (self.matrix @ vector)


@cache
def _start(size: int) -> Tensor:
    return start_vector(torch.empty(size, dtype=torch.float64), 0, "largest singular values", 0)


def largest_singular_values(matrix: Tensor, count: int) -> Tensor:
    """The ``count`` largest singular values of a matrix (m, n) whose values differ, such as a trained one.

    Where the matrix is large and these stand out of the others, the Lanczos iteration on MᵀM finds them in
    float64, to 1e-10 relative; else a decomposition does. The start vector is always the same.
    """
    small = min(matrix.shape)
    if small >= _LARGE and _SHARE * count <= small:
        start = _start(matrix.shape[1]).to(matrix.device)
        found = lanczos(_Gram(matrix.double()), start, count, tolerance=1e-10, most=small // _SHARE)
        if found.converged:
            return found.values.clamp(min=0).sqrt().to(matrix.dtype)
    return singular_values(matrix, count)


def stable_rank(values: Tensor) -> Tensor:
    """‖W‖²_F/‖W‖² = Σσ²/σ₁², a scalar, of all singular values ``[r]``, the largest first."""
    return values.square().sum() / values[0].square()


def effective_rank(values: Tensor) -> Tensor:
    """exp(−Σ p ln p) with p = σ/Σσ, a scalar, of all singular values ``[r]`` (Roy & Vetterli 2007)."""
    p = values / values.sum()
    return torch.special.entr(p).sum().exp()


def numerical_rank(values: Tensor, tolerance: float) -> int:
    """The number of singular values ``[r]`` above ``tolerance`` times the largest."""
    require_not_negative(tolerance=tolerance)
    return int((values > tolerance * values.max()).sum())


def weight_matrices(network: nn.Module) -> dict[str, Tensor]:
    """The trained weights of a network as matrices, by name: ``[out, in]``, of a convolution with in = inputs
    × kernel; no biases or other vectors."""
    return {
        n: p.detach().flatten(1) for n, p in network.named_parameters() if p.requires_grad and p.dim() > 1
    }


def chosen_matrices(owner: str, network: nn.Module, weights: list[str] | None) -> Mapping[str, Tensor]:
    """Some of a network's weights by name; None for all.

    Raises:
        UserError: a name that there is not, or a network without matrices.
    """
    found = weight_matrices(network)
    if not found:
        raise UserError(
            f"{owner}: {type(network).__name__} has no trained matrices; allowed: a network with some"
        )
    for name in weights or []:
        if name not in found:
            problem = f"{owner}: there is no matrix {name!r}{did_you_mean(name, found)}"
            raise UserError(with_allowed(problem, list(found)))
    return found if weights is None else {name: found[name] for name in weights}


class SingularValues(Measure):
    """``measure/singular_value_K/WEIGHT``, K = 1 … count, of weights as matrices, with their
    ``measure/stable_rank/WEIGHT``, ``measure/effective_rank/WEIGHT`` and ``measure/numerical_rank/WEIGHT``.

    Args:
        count: singular values that are logged of each.
        weights: names of parameters; None for all matrices and convolutions.
        rank_tolerance: the numerical rank counts singular values above this times the largest.
        cadence: see :class:`Measure`.
    """

    formula = "σ_k of W; stable rank Σσ²/σ₁²; effective rank exp(−Σ p ln p), p = σ/Σσ; #{σ > tolerance·σ₁}"
    answers = "do weights become low-rank"
    price = "0, and a singular value decomposition of each weight"
    logged = (
        "measure/singular_value_K/WEIGHT",
        "measure/stable_rank/WEIGHT",
        "measure/effective_rank/WEIGHT",
        "measure/numerical_rank/WEIGHT",
    )
    small = ({}, {"count": 3})

    def __init__(
        self,
        count: int = 1,
        weights: list[str] | None = None,
        rank_tolerance: float = 1e-3,
        **cadence: Any,
    ) -> None:
        super().__init__(**cadence)
        require_counts("SingularValues", count=count)
        require_rank_tolerance("SingularValues", rank_tolerance)
        self.count, self.weights, self.rank_tolerance = count, weights, rank_tolerance

    def check(self, network: nn.Module, data: KeyedData) -> None:
        chosen_matrices("SingularValues", network, self.weights)

    def take(self, run: RunAtStep, member: int) -> Values:
        found: Values = {}
        for name, matrix in chosen_matrices("SingularValues", run.network, self.weights).items():
            if not bool(matrix.isfinite().all()):
                continue
            found |= spectrum_of(matrix, name, self.count, self.rank_tolerance)
        return found


def spectrum_of(matrix: Tensor, name: str, count: int, rank_tolerance: float) -> Values:
    """The largest singular values of a matrix and its ranks, as they are logged under a name.

    Ranks that divide by singular values are left out for a matrix of zeros.
    """
    values = singular_values(matrix.double())
    found = {f"measure/singular_value_{k}/{name}": v for k, v in enumerate(values[:count].tolist(), start=1)}
    found[f"measure/numerical_rank/{name}"] = numerical_rank(values, rank_tolerance)
    if bool(values[0] > 0):
        found[f"measure/stable_rank/{name}"] = float(stable_rank(values))
        found[f"measure/effective_rank/{name}"] = float(effective_rank(values))
    return found


def require_rank_tolerance(owner: str, tolerance: float) -> None:
    """Refuse a tolerance of the numerical rank that is not between 0 and 1.

    Raises:
        UserError: naming it.
    """
    if not 0 <= tolerance < 1:
        raise UserError(f"{owner}.rank_tolerance: {tolerance} is not possible; allowed: from 0, below 1")


class SensingSpectrum(SensingMeasure):
    """``sensing/singular_value_K`` of M beside ``sensing/target_singular_value_K`` of T, K = 1 … r."""

    formula = "σ_k of M and of T, k = 1 … r"
    answers = "in which order does a linear network find the directions of matrix sensing"
    price = "0, and a singular value decomposition"
    logged = ("sensing/singular_value_K", "sensing/target_singular_value_K")

    def __init__(self, **cadence: Any) -> None:
        super().__init__(**cadence)
        self._of_targets: dict[int, list[float]] = {}  # by member: they stay

    def take(self, run: RunAtStep, member: int) -> Values:
        if not math.isfinite(run.once(missed)):
            return {}
        if member not in self._of_targets:
            self._of_targets[member] = largest_singular_values(run.data.target, run.data.r).tolist()
        own, of_target = largest_singular_values(run.matrix, run.data.r).tolist(), self._of_targets[member]
        found = {f"sensing/singular_value_{i}": value for i, value in enumerate(own, start=1)}
        return found | {f"sensing/target_singular_value_{i}": v for i, v in enumerate(of_target, start=1)}
