"""What measures of curvature share in a run: products with one Hessian, and its top eigenvalues."""

from typing import Any

import torch
from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.measures.lanczos import Eigenpairs, expected_products, lanczos, start_vector
from sgdlit.measures.measure import Measure, RunAtStep, require_positive
from sgdlit.measures.products import HessianProducts
from sgdlit.measures.work import Sizes, Work, Works
from sgdlit.objectives.objective import refuse_compiled

_TRIED = 2  # examples whose graph is made once more, to see how much memory it takes


class CurvatureMeasure(Measure):
    """A measure that differentiates twice."""

    def check(self, network: nn.Module, data: KeyedData) -> None:
        refuse_compiled(network, f"{type(self).__name__}:")


class ProbedMeasure(CurvatureMeasure):
    """A measure by products with random vectors.

    Args:
        probes: how many.
        cadence: see :class:`Measure`.
    """

    small = ({"probes": 3},)

    def __init__(self, probes: int = 12, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_positive(type(self).__name__, probes=probes)
        self.probes = probes


_NEW = 0.1  # norm of the random part of a warm start, whose old part is a unit vector


def hessian_of(run: RunAtStep) -> HessianProducts:
    """Products with the Hessian of the mean loss of the measured examples; ask for it by ``run.once``."""
    return run.sums().hessian()


def top_of(run: RunAtStep, count: int, tolerance: float, old: Tensor | None = None) -> Eigenpairs:
    """The largest eigenvalues of that Hessian, with vectors; ask for it by ``run.once``.

    Args:
        run: whose Hessian.
        count: how many.
        tolerance: relative error of each.
        old: vectors of an earlier step, ``[P, k]``, from which the Lanczos iteration starts.
    """
    hessian = run.once(hessian_of)
    start = start_vector(hessian.gradient, run.data.seed, "sharpness", run.step)
    if old is not None:
        start = warm_start(old, start)
    elif count == 1:
        start = gradient_start(hessian.gradient, start)
    return lanczos(hessian, start, min(count, hessian.size), tolerance, vectors=True)


def to_start_from(top: Eigenpairs) -> Tensor:
    """What a later step may start from: the eigenvectors and the Ritz vector that follows, ``[P, k]``.

    The one that follows belongs to it: it may have become the sharpest meanwhile, and from the others alone
    the iteration would converge without it.
    """
    assert top.vectors is not None, "top_of keeps them"
    following = [] if top.following is None else [top.following.unsqueeze(1)]
    return torch.cat([top.vectors, *following], 1)


def warm_start(old: Tensor, random: Tensor) -> Tensor:
    """The sum of old vectors ``[P, k]``, made a unit vector, plus a tenth of one at random ``[P]``.

    Without the random part the iteration could not leave a space that was invariant. A direction that was
    not among the old ones and has become the sharpest can still be missed: the start hardly sees it.
    """
    whole = old.to(random).sum(1)
    return whole / whole.norm() + _NEW * random / random.norm()


def gradient_start(gradient: Tensor, random: Tensor) -> Tensor:
    """A unit vector along g plus one at random, ``[P]`` each: for the largest eigenvalue alone.

    Much of the gradient lies in the sharpest directions (Gur-Ari, Roberts & Dyer 2018, 1812.04754), so that
    fewer products are enough. Of several eigenvalues it can miss one: these begin at random.
    """
    length = gradient.norm()
    return random / random.norm() + (gradient / length if length > 0 else 0)


def work_of_hessian(sizes: Sizes) -> Works:
    """The graphs that :func:`hessian_of` makes for its products."""
    tried = min(_TRIED, sizes.chunk_size, sizes.examples)
    return {(hessian_of,): Work(gradients=sizes.examples + tried)}


def work_of_top(sizes: Sizes, count: int, tolerance: float) -> Works:
    """That of :func:`top_of`: the number of its products depends on the spectrum, and is an expectation."""
    products = expected_products(min(count, sizes.parameters), tolerance, sizes.parameters)
    return work_of_hessian(sizes) | {(top_of, count, tolerance): Work(products=products * sizes.examples)}
