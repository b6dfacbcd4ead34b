"""What measures of curvature share in a run: products with one Hessian, and its top eigenvalues."""

from torch import nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.measures.lanczos import Eigenpairs, expected_products, lanczos, start_vector
from sgdlit.measures.measure import Measure, RunAtStep
from sgdlit.measures.products import HessianProducts
from sgdlit.measures.work import Sizes, Work, Works
from sgdlit.objectives.objective import refuse_compiled

_TRIED = 2  # examples whose graph is made once more, to see how much memory it takes


class CurvatureMeasure(Measure):
    """A measure that differentiates twice."""

    def check(self, network: nn.Module, data: KeyedData) -> None:
        refuse_compiled(network, f"{type(self).__name__}:")


def hessian_of(run: RunAtStep) -> HessianProducts:
    """Products with the Hessian of the mean loss of the measured examples; ask for it by ``run.once``."""
    return HessianProducts(run.network, run.loss, run.examples)


def top_of(run: RunAtStep, count: int, tolerance: float) -> Eigenpairs:
    """The largest eigenvalues of that Hessian, with vectors; ask for it by ``run.once``."""
    hessian = run.once(hessian_of)
    start = start_vector(hessian.gradient, run.data.seed, "sharpness", run.step)
    return lanczos(hessian, start, min(count, hessian.size), tolerance, vectors=True)


def work_of_hessian(sizes: Sizes) -> Works:
    """The graphs that :func:`hessian_of` makes for its products."""
    tried = min(_TRIED, sizes.chunk_size, sizes.examples)
    return {(hessian_of,): Work(gradients=sizes.examples + tried)}


def work_of_top(sizes: Sizes, count: int, tolerance: float) -> Works:
    """That of :func:`top_of`: the number of its products depends on the spectrum, and is an expectation."""
    products = expected_products(min(count, sizes.parameters), tolerance, sizes.parameters)
    return work_of_hessian(sizes) | {(top_of, count, tolerance): Work(products=products * sizes.examples)}
