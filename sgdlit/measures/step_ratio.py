"""Step ratio: the change of the loss by a step, over what a quadratic model says."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.measures.curvature import CurvatureMeasure, hessian_of, work_of_hessian
from sgdlit.measures.from_scripts import gathered
from sgdlit.measures.mean_gradient import mean_cost, trained_parameters
from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.products import HessianProducts, LossFunction
from sgdlit.measures.undisturbed import moved
from sgdlit.measures.work import Sizes, Work, Works


class StepChange(NamedTuple):
    """What :func:`step_ratio` finds.

    Attributes:
        change: C(θ + d) − C(θ).
        predicted: gᵀd + ½dᵀHd.
        along: dᵀHd/‖d‖², unit C/θ².
    """

    change: float
    predicted: float
    along: float

    @property
    def ratio(self) -> float:
        """The first over the second: 1 on a quadratic; NaN where nothing is predicted."""
        return self.change / self.predicted if self.predicted else float("nan")


def step_ratio(
    network: nn.Module, loss: LossFunction, batches: Iterable[Batch], update: Tensor
) -> StepChange:
    """(C(θ + d) − C(θ))/(gᵀd + ½dᵀHd), no unit, with its two parts, of unit C.

    Far from 1 the quadratic model does not hold along the step; near a prediction of 0 the ratio says
    nothing, so both parts are given. In float32 a change below 1e-6·C is rounding.

    Cost: four gradients of every example, less a third.

    Args:
        network: see :class:`sgdlit.measures.products.Products`, as ``loss`` and ``batches``.
        loss: outputs and targets -> mean loss, or one per example.
        batches: inputs and targets of all examples, the same for C, g and H.
        update: d, ``[P]``.
    """
    batches = gathered(batches)
    return step_ratio_of(HessianProducts(network, loss, batches), batches, update)


def step_ratio_of(hessian: HessianProducts, batches: Iterable[Batch], update: Tensor) -> StepChange:
    """The same, of products with a Hessian on the same batches."""
    d, network = update.to(hessian.gradient), hessian.network
    here = {name: p.detach() for name, p in trained_parameters(network).items()}
    there = {name: p + part for (name, p), part in zip(here.items(), hessian.parts(d), strict=True)}
    before = mean_cost(network, hessian.loss, batches)
    with moved(network, there):
        change = mean_cost(network, hessian.loss, batches) - before
    slope, bent = torch.dot(hessian.gradient, d).double(), torch.dot(d, hessian @ d).double()
    return StepChange(change, float(slope + bent / 2), float(bent / torch.dot(d, d)))


class StepRatio(CurvatureMeasure):
    """``measure/step_ratio`` of the last update d, from where it was made, on the examples.

    Beside it its parts, ``measure/step_change`` C(θ + d) − C(θ) and ``measure/step_predicted`` gᵀd + ½dᵀHd,
    and ``measure/update_sharpness`` dᵀHd/‖d‖², the curvature along the update. Nothing at step 0, nor where
    the update is 0.
    """

    formula = "(C(θ + d) − C(θ))/(gᵀd + ½dᵀHd) with d the last update; dᵀHd/‖d‖²"
    answers = "does the quadratic model hold along the steps that are made"
    price = "4 n"
    logged = (
        "measure/step_ratio",
        "measure/step_change",
        "measure/step_predicted",
        "measure/update_sharpness",
    )
    needs = ("examples", "parameters", "previous_parameters")
    looks_back = 1

    def work(self, sizes: Sizes) -> Works:
        if sizes.step == 0:
            return {}
        before = work_of_hessian(sizes)[(hessian_of,)].gradients  # where the update was made
        n = sizes.examples
        return {self: Work(forwards=2 * n, gradients=before, products=n)}

    def take(self, run: RunAtStep, member: int) -> Values:
        if not run.previous_parameters:
            return {}
        before, after = run.previous_parameters[0], run.parameters
        trained = trained_parameters(run.network)
        d = torch.cat([(after[name] - before[name]).reshape(-1) for name in trained])
        if not bool(d.any()):
            return {}
        with moved(run.network, before):
            found = step_ratio(run.network, run.loss, run.examples, d)
        return {
            "measure/step_ratio": found.ratio,
            "measure/step_change": found.change,
            "measure/step_predicted": found.predicted,
            "measure/update_sharpness": found.along,
        }
