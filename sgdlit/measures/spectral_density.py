"""Spectral density: how the eigenvalues of the Hessian are distributed."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_counts
from sgdlit.measures.curvature import CurvatureMeasure, hessian_of, work_of_hessian
from sgdlit.measures.estimate import mean_of
from sgdlit.measures.lanczos import Krylov, start_vector, work_of_lanczos
from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.products import HessianProducts, LossFunction, Products
from sgdlit.measures.work import Sizes, Works

_GRID = 512  # points of a stored density


class Spectrum(NamedTuple):
    """Quadrature rules of the spectral measure (1/P)Σ_i δ(λ − λ_i), one of each start vector.

    Attributes:
        nodes: Ritz values, float64 ``[v, m]``, from the smallest up.
        weights: of each, float64 ``[v, m]``; each rule's sum to 1.
    """

    nodes: Tensor
    weights: Tensor

    def moment(self, power: int) -> Tensor:
        """Estimates of tr Hᵏ/P from each start vector, ``[v]``; their mean is unbiased for k < 2m."""
        return (self.weights * self.nodes**power).sum(1)

    def share_below(self, value: float) -> Tensor:
        """The share of eigenvalues below a value, by each start vector, ``[v]``."""
        return (self.weights * (self.nodes < value)).sum(1)

    def density(self, grid: Tensor, width: float) -> tuple[Tensor, Tensor]:
        """The density at points ``[grid]``, blurred by a Gaussian: its mean over start vectors, and their
        standard deviation, ``[grid]`` each; unit 1/λ.

        Args:
            grid: of λ.
            width: standard deviation of the Gaussian, in units of λ.
        """
        apart = (grid.double()[:, None, None] - self.nodes) / width
        bumps = torch.exp(-apart.square() / 2) / (width * math.sqrt(2 * math.pi))
        each = (bumps * self.weights).sum(2)  # [grid, v]
        spread = each.std(1) if each.shape[1] > 1 else torch.full_like(each[:, 0], float("nan"))
        return each.mean(1), spread


def spectral_density(
    network: nn.Module,
    loss: LossFunction,
    batches: Iterable[Batch],
    steps: int = 40,
    starts: int = 10,
    seed: int = 0,
) -> Spectrum:
    """(1/P)Σ_i δ(λ − λ_i) of the Hessian by stochastic Lanczos quadrature: nodes and weights.

    From each start vector, normal and made a unit, m products give a tridiagonal T; its eigenvalues are the
    nodes, the squared first components of its eigenvectors the weights.

    Cost: (1 + 2·v·m) gradients of every example. Source: Ubaru, Chen & Saad 2017; Ghorbani, Krishnan & Xiao
    2019, 1901.10159.

    Args:
        network: see :class:`sgdlit.measures.products.Products`, as ``loss`` and ``batches``.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs and targets of all examples.
        steps: m, at most P.
        starts: v.
        seed: of the start vectors.
    """
    return spectral_density_of(HessianProducts(network, loss, batches), steps, starts, seed)


def spectral_density_of(
    matrix: Products, steps: int = 40, starts: int = 10, seed: int = 0, step: int = 0
) -> Spectrum:
    """The same, of products with any second derivative of a network."""
    require_counts(steps=steps, starts=starts)
    like = matrix.flat(matrix.parameters).detach()
    m = min(steps, matrix.size)
    nodes, weights = np.zeros((starts, m)), np.zeros((starts, m))
    for number in range(starts):
        krylov = Krylov(matrix, start_vector(like, seed, "spectral density", step, number), m)
        while len(krylov) < m and not krylov.ended:
            krylov.extend()
        values, components = krylov.ritz()
        nodes[number] = values[-1]  # where the space ended early, further nodes have weight 0
        nodes[number, : len(values)], weights[number, : len(values)] = values, components[0] ** 2
    return Spectrum(torch.from_numpy(nodes), torch.from_numpy(weights))


def density_of_run(run: RunAtStep, steps: int, starts: int) -> Spectrum:
    """That of the Hessian of the measured examples; ask for it by ``run.once``."""
    return spectral_density_of(run.once(hessian_of), steps, starts, run.data.seed, run.step)


class SpectralDensity(CurvatureMeasure):
    """``measure/negative_share``: the weight of eigenvalues below −1 % of the largest Ritz value, with
    ``_low`` and ``_high``; and the ends of the spectrum, ``measure/spectrum_largest`` and
    ``measure/spectrum_smallest``; of the examples.

    The array ``spectral_density`` is the density, blurred by a Gaussian whose standard deviation is a
    hundredth of the distance between the ends; ``spectrum`` has the nodes and weights, see :class:`Spectrum`.

    Args:
        steps: Lanczos steps from each start vector.
        starts: start vectors.
        cadence: see :class:`Measure`.
    """

    formula = "(1/P)Σ_i δ(λ − λ_i), by Lanczos quadrature"
    answers = "how are the eigenvalues distributed, and how many are negative"
    price = "(1 + 2 v m) n for v start vectors of m steps"
    logged = (
        "measure/negative_share",
        "measure/negative_share_low",
        "measure/negative_share_high",
        "measure/spectrum_largest",
        "measure/spectrum_smallest",
    )
    arrays: ClassVar[Mapping[str, str]] = {
        "spectral_density": "[3, grid]: λ in C/θ²; the density in 1/λ; its standard deviation over starts",
        "spectrum": "[2, v, m]: nodes λ in C/θ² of each start vector; their weights",
    }
    needs = ("examples",)
    small = ({"steps": 6, "starts": 2},)

    def __init__(self, steps: int = 40, starts: int = 10, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts(type(self).__name__, steps=steps, starts=starts)
        self.steps, self.starts = steps, starts

    def work(self, sizes: Sizes) -> Works:
        steps = min(self.steps, sizes.parameters)
        own = work_of_lanczos(steps, sizes.examples, self.starts)
        return work_of_hessian(sizes) | {(density_of_run, self.steps, self.starts): own}

    def take(self, run: RunAtStep, member: int) -> Values:
        found = run.once(density_of_run, self.steps, self.starts)
        largest, smallest = float(found.nodes.max()), float(found.nodes.min())
        ends = {"measure/spectrum_largest": largest, "measure/spectrum_smallest": smallest}
        return mean_of(found.share_below(-0.01 * abs(largest))).under("measure/negative_share") | ends

    def take_arrays(self, run: RunAtStep, member: int) -> dict[str, Tensor]:
        found = run.once(density_of_run, self.steps, self.starts)
        low, high = float(found.nodes.min()), float(found.nodes.max())
        width = 0.01 * (high - low)
        if not (math.isfinite(width) and width > 0):
            return {"spectrum": torch.stack(found)}
        grid = torch.linspace(low - 3 * width, high + 3 * width, _GRID, dtype=torch.float64)
        curve = torch.stack((grid, *found.density(grid, width)))
        return {"spectral_density": curve, "spectrum": torch.stack(found)}
