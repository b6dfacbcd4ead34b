"""What measures of curvature share in a run: products with one Hessian, and its top eigenvalues."""

from typing import Any

import torch
from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.measures.lanczos import (
    Eigenpairs,
    Krylov,
    expected_products,
    lanczos,
    start_vector,
    work_of_lanczos,
)
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


_PART, _OF = 64, 256  # a cold start looks at some of the examples, where there are so many
STEPS_OF_PART = 5
"""Lanczos steps of a cold start with the Hessian of a part of the examples."""
_ALONG = 0.25  # share of the gradient's length from which on the old sharpest direction is taken to be one


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
        start = warm_start(old, hessian.gradient, start, count)
    elif count == 1:
        start = cold_start(hessian, start)
    return lanczos(hessian, start, min(count, hessian.size), tolerance, vectors=True)


def to_start_from(top: Eigenpairs) -> Tensor:
    """What a later step may start from: the eigenvectors and the Ritz vector that follows, ``[P, k]``.

    The one that follows belongs to it: it may have become the sharpest meanwhile, and from the others alone
    the iteration would converge without it.
    """
    assert top.vectors is not None, "top_of keeps them"
    following = [] if top.following is None else [top.following.unsqueeze(1)]
    return torch.cat([top.vectors, *following], 1)


def warm_start(old: Tensor, gradient: Tensor, random: Tensor, count: int) -> Tensor:
    """Where to start from what an earlier step found, ``[P]``.

    For one eigenvalue along the old eigenvector, with three tenths of what followed it, two tenths of the
    gradient and a hundredth at random, without which the iteration could not leave a space that was
    invariant. Where the gradient has less than a quarter of its length along the old eigenvector, as a cold
    start does: then the sharpest direction is another by now, in which the gradient lies (see
    :func:`gradient_start`). For several, along the sum of the old vectors, with a tenth at random.

    A direction that was not among the old ones and has become the sharpest can still be missed, where the
    gradient is not along it either: the start hardly sees it.

    Args:
        old: eigenvectors and the Ritz vector that followed, ``[P, k]``, each of length 1.
        gradient: of the same examples, ``[P]``.
        random: ``[P]``.
        count: of eigenvalues.
    """
    old, noise = old.to(random), random / random.norm()
    if count > 1:
        whole = old.sum(1)
        return whole / whole.norm() + 0.1 * noise
    first, following = old[:, 0], old[:, 1:].sum(1)
    if abs(torch.dot(first, gradient)) <= _ALONG * gradient.norm():
        return gradient_start(gradient, random)
    return first + 0.3 * following + 0.2 * gradient / gradient.norm() + 0.01 * noise


def cold_start(hessian: HessianProducts, random: Tensor) -> Tensor:
    """Where to start for the largest eigenvalue alone, ``[P]``, where nothing is known of an earlier step.

    The Hessian of 64 of the examples has much the same sharpest directions, and its products cost little: a
    few Lanczos steps with it, from :func:`gradient_start`, are cheaper than one product of all. The start is
    along its first Ritz vector, with three tenths of the second, as the two can have changed places, and a
    little at random; their signs are those along the gradient. Of few examples it is the gradient's start.

    Args:
        hessian: of all examples.
        random: ``[P]``.
    """
    start = gradient_start(hessian.gradient, random)
    part = part_of_cold_start(hessian.examples)
    if not part:
        return start
    krylov = Krylov(hessian.of_first(part), start, STEPS_OF_PART)
    while len(krylov) < STEPS_OF_PART and not krylov.ended:
        krylov.extend()
    if len(krylov) < 2:
        return start
    components = torch.from_numpy(krylov.ritz()[1][:, :-3:-1].copy()).to(krylov.basis)
    first, second = components.T @ krylov.basis
    first, second = (v if torch.dot(v, hessian.gradient) >= 0 else -v for v in (first, second))
    return first + 0.3 * second + 0.05 * random / random.norm()


def part_of_cold_start(examples: int) -> int:
    """How many of the examples :func:`cold_start` looks at; 0 where the gradient alone is its start."""
    return _PART if examples >= _OF else 0


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
    """That of :func:`top_of`: the number of its products depends on the spectrum, and is an expectation;
    those that a start takes with a part of the examples are among them, by their share."""
    products = expected_products(min(count, sizes.parameters), tolerance, sizes.parameters)
    found = work_of_lanczos(products, sizes.examples)
    if count == 1:
        found = found._replace(gradients=part_of_cold_start(sizes.examples))
    return work_of_hessian(sizes) | {(top_of, count, tolerance): found}
