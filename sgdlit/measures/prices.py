"""What passes through a network cost, in gradients of one example: counted in multiplications, not timed."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.measures.example_gradients import linear_layers
from sgdlit.measures.mean_gradient import MeanLoss, mean_cost, trained_parameters
from sgdlit.measures.products import HessianProducts
from sgdlit.measures.undisturbed import undisturbed
from sgdlit.measures.work import Work

_PER_PARAMETER = 64  # multiplications in whose time a step goes over a parameter and its gradient in memory
_PASSES = 2  # of a measure for each of a step's: vectors are cut and joined, and added up in float64


class Prices(NamedTuple):
    """In gradients of one example, as part of a large batch; those of a deep network of convolutions.

    Attributes:
        forward: a pass without a gradient.
        example_gradient: a gradient, with the norm of each example's own.
        product: one with the Hessian, whose graph is there.
        fixed: of each gradient in a step, whatever the number of its examples; of measures twice that.
    """

    forward: float = 1 / 3
    example_gradient: float = 1.5
    product: float = 2.0
    fixed: float = 0.0

    def of(self, work: Work, together: int) -> float:
        """Of some work, in passes of so many examples, or of as many as it says itself."""
        own = self.forward * work.forwards + work.gradients + self.product * work.products
        own += self.example_gradient * work.example_gradients
        return own * (1 + _PASSES * self.fixed / (work.together or together))

    def of_step(self, batch_size: int, gradients: float) -> float:
        """Of a step that takes some gradients of so many examples."""
        return gradients * (batch_size + self.fixed)


def prices_of(network: nn.Module, loss: MeanLoss, inputs: Tensor, targets: Tensor) -> Prices:
    """The prices for a network, whose multiplications are counted on one example.

    A gradient costs three times a pass forwards where no layer is the first, and less where one is, since
    nothing is differentiated by inputs; a product costs twice a gradient there, and once in a first layer. A
    pass goes over all parameters too, which counts where each is used for few examples: an MLP's at B = 32.

    Args:
        network: in any mode.
        loss: outputs and targets -> mean loss, or one per example.
        inputs: of one example, ``[1, ...]``.
        targets: of it.

    Returns:
        Those of a network of convolutions where nothing can be counted.
    """
    linear = linear_layers(network) is not None
    given = Prices(example_gradient=1.0 if linear else 1.5)
    batch = [(inputs, targets)]
    try:
        with undisturbed(network):
            forward = _counted(lambda: mean_cost(network, loss, batch))
            hessian = HessianProducts(network, loss, batch, None)
            gradient = _counted(lambda: hessian.gradient)
            product = _counted(lambda: hessian @ hessian.gradient)
    except (UserError, RuntimeError, NotImplementedError):
        return given
    if not gradient:
        return given
    parameters = sum(p.numel() for p in trained_parameters(network).values())
    fixed = 2 * _PER_PARAMETER * parameters / gradient
    return given._replace(forward=forward / gradient, product=product / gradient, fixed=fixed)


def _counted(call: Callable[[], object]) -> int:
    """Multiplications and additions in products of matrices and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode(False):
        call()
    return counter.get_total_flops()
