"""What measures share of the examples that they look at: means of cost, gradient and curvature, and norms."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.measures.example_gradients import ExampleGradients, example_gradients
from sgdlit.measures.mean_gradient import MeanGradient, mean_cost, mean_gradient
from sgdlit.measures.products import HessianProducts
from sgdlit.objectives import Loss


class ExampleSums:
    """Sums over examples with their counts, computed by this process alone.

    Args:
        network: in the mode in which it is.
        loss: of each example.
        examples: in batches, made anew each time.
    """

    def __init__(self, network: nn.Module, loss: Loss, examples: Iterable[Batch]) -> None:
        self.network, self.loss, self.examples = network, loss, examples

    def mean_cost(self) -> float:
        """C, see :func:`sgdlit.measures.mean_gradient.mean_cost`."""
        return mean_cost(self.network, self.loss, self.examples)

    def mean_gradient(self) -> MeanGradient:
        """C and ∇C, see :func:`sgdlit.measures.mean_gradient.mean_gradient`."""
        return mean_gradient(self.network, self.loss, self.examples)

    def example_gradients(self, direction: Mapping[str, Tensor] | None) -> ExampleGradients:
        """‖∇C_i‖² and ∇C_i·v, see :func:`sgdlit.measures.example_gradients.example_gradients`."""
        return example_gradients(self.network, self.loss, self.examples, direction)

    def hessian(self) -> HessianProducts:
        """Products with ∇²C."""
        return HessianProducts(self.network, self.loss, self.examples)
