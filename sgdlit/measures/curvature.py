"""What measures of curvature share in a run: products with one Hessian, and its top eigenvalues."""

from typing import Any

import torch
from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.arguments import require_counts
from sgdlit.measures.lanczos import (
    Eigenpairs,
    Krylov,
    expected_products,
    lanczos,
    start_vector,
    work_of_lanczos,
)
from sgdlit.measures.measure import Measure, RunAtStep
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
        require_counts(type(self).__name__, probes=probes)
        self.probes = probes


_PART, _OF = 64, 256  # a cold start looks at some of the examples, where there are so many
STEPS_OF_PART = 5
"""Lanczos steps of a cold start with the Hessian of a part of the examples."""


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
    random = start_vector(hessian.gradient, run.data.seed, "sharpness", run.step)
    start = start_for(hessian, random, count, old)
    return lanczos(hessian, start, min(count, hessian.size), tolerance, vectors=True)


def start_for(hessian: HessianProducts, random: Tensor, count: int, old: Tensor | None = None) -> Tensor:
    """Where to start for some of the largest eigenvalues, ``[P]``.

    For one alone :func:`cold_start`, whatever is known of an earlier step: from an old eigenvector the
    iteration needs as many products, and it can miss a direction that has become the sharpest meanwhile.

    Args:
        hessian: of all examples.
        random: ``[P]``.
        count: of eigenvalues.
        old: what :func:`to_start_from` kept; None begins anew, at random.
    """
    if count == 1:
        return cold_start(hessian, random)
    return random if old is None else warm_start(old, random)


def to_start_from(top: Eigenpairs) -> Tensor:
    """What a later step may start from: the eigenvectors and the Ritz vector that follows, ``[P, k]``.

    The one that follows belongs to it: it may have become the sharpest meanwhile, and from the others alone
    the iteration would converge without it.
    """
    assert top.vectors is not None, "top_of keeps them"
    following = [] if top.following is None else [top.following.unsqueeze(1)]
    return torch.cat([top.vectors, *following], 1)


def warm_start(old: Tensor, random: Tensor) -> Tensor:
    """Where to start for several eigenvalues from what an earlier step found, ``[P]``.

    It is along the sum of the old vectors, with a tenth at random, without which the iteration could not
    leave a space that was invariant.

    A direction that was not among the old ones and has become the sharpest can still be missed.

    Args:
        old: eigenvectors and the Ritz vector that followed, ``[P, k]``, each of length 1.
        random: ``[P]``.
    """
    whole = old.to(random).sum(1)
    return whole / whole.norm() + 0.1 * random / random.norm()


def cold_start(hessian: HessianProducts, random: Tensor) -> Tensor:
    """Where to start for the largest eigenvalue alone, ``[P]``.

    The Hessian of 64 of the examples has much the same sharpest directions, and its products cost little: a
    few Lanczos steps with it, from :func:`gradient_start`, are cheaper than one product of all. The start is
    along its first Ritz vector, with three tenths of the second, as the two can have changed places, and a
    little at random; their signs are those along the gradient. Of few examples it is the gradient's start.

    Args:
        hessian: of all examples.
        random: ``[P]``.
    """
    start, part = gradient_start(hessian.gradient, random), part_of_start(hessian.examples)
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


def part_of_start(examples: int) -> int:
    """How many of the examples a start looks at with some Lanczos steps; 0 where it takes none."""
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
        found = found._replace(gradients=part_of_start(sizes.examples))
    return work_of_hessian(sizes) | {(top_of, count, tolerance): found}
