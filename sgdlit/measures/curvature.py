"""What measures of curvature share in a run: products with one Hessian, and its top eigenvalues."""

import torch
from torch import Tensor

from sgdlit.measures.lanczos import Eigenpairs, lanczos, start_vector
from sgdlit.measures.measure import RunAtStep
from sgdlit.measures.products import HessianProducts

_NEW = 0.1  # norm of the random part of a warm start, whose old part is a unit vector


def hessian_of(run: RunAtStep) -> HessianProducts:
    """Products with the Hessian of the mean loss of the measured examples; ask for it by ``run.once``."""
    return HessianProducts(run.network, run.loss, run.examples)


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
