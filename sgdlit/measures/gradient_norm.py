"""Squared norm of the gradient over examples, of the whole network and of each layer."""

from collections.abc import Iterable

from torch import nn

from sgdlit.data.batches import Batch
from sgdlit.measures.mean_gradient import MeanLoss, layers_of, mean_gradient, squared_norms_by_layer
from sgdlit.measures.measure import Measure, RunAtStep, Values, layers_of_run


def gradient_norm(network: nn.Module, loss: MeanLoss, batches: Iterable[Batch]) -> dict[str, float]:
    """‖∇C‖² of each layer, in C²/θ²; their sum is that of the network.

    C is the mean over all examples of the batches, whatever the batches' sizes. Of n examples out of more,
    ‖∇C‖² is too large by S²/n on average: :func:`sgdlit.measures.gradient_noise.gradient_noise` corrects it.

    Args:
        network: in the mode in which it is; nothing of it changes.
        loss: its mean over a batch, or one of each example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]``.
    """
    return squared_norms_by_layer(layers_of(network), mean_gradient(network, loss, batches).gradient)


class GradientNorm(Measure):
    """``measure/squared_gradient_norm`` ‖∇C‖² over the examples, and that of each layer, and their cost C."""

    formula = "‖∇C‖²"
    answers = "how far from stationary is the network, and which layer moves"
    price = "n"
    logged = ("measure/squared_gradient_norm", "measure/squared_gradient_norm/LAYER", "measure/cost")
    needs = ("cost", "gradient")

    def take(self, run: RunAtStep, member: int) -> Values:
        of_layers = squared_norms_by_layer(run.once(layers_of_run), run.gradient)
        found = {"measure/cost": run.cost, "measure/squared_gradient_norm": sum(of_layers.values())}
        return found | {f"measure/squared_gradient_norm/{layer}": v for layer, v in of_layers.items()}
