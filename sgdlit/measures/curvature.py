"""What measures of curvature share in a run: products with one Hessian, and its top eigenvalues."""

from sgdlit.measures.lanczos import Eigenpairs, lanczos, start_vector
from sgdlit.measures.measure import RunAtStep
from sgdlit.measures.products import HessianProducts


def hessian_of(run: RunAtStep) -> HessianProducts:
    """Products with the Hessian of the mean loss of the measured examples; ask for it by ``run.once``."""
    return HessianProducts(run.network, run.loss, run.examples)


def top_of(run: RunAtStep, count: int, tolerance: float) -> Eigenpairs:
    """The largest eigenvalues of that Hessian, with vectors; ask for it by ``run.once``."""
    hessian = run.once(hessian_of)
    start = start_vector(hessian.gradient, run.data.seed, "sharpness", run.step)
    return lanczos(hessian, start, min(count, hessian.size), tolerance, vectors=True)
