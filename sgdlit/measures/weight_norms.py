"""Norms of the parameters of each layer."""

from torch import nn

from sgdlit.measures.mean_gradient import layers_of, squared_norms_by_layer, trained_parameters
from sgdlit.measures.measure import Measure, RunAtStep, Values


def weight_norms(network: nn.Module) -> dict[str, float]:
    """‖w_l‖ of the trained parameters of each layer, biases included, in θ; float64 sums."""
    trained = {name: p.detach() for name, p in trained_parameters(network).items()}
    return {
        layer: square**0.5 for layer, square in squared_norms_by_layer(layers_of(network), trained).items()
    }


class WeightNorms(Measure):
    """``measure/weight_norm`` ‖θ‖ of the trained parameters and ``measure/weight_norm/LAYER`` of each
    layer."""

    formula = "‖w_l‖ of each layer"
    answers = "which weights grow or shrink"
    price = "0"
    logged = ("measure/weight_norm", "measure/weight_norm/LAYER")

    def take(self, run: RunAtStep, member: int) -> Values:
        of_layers = weight_norms(run.network)
        whole = sum(norm**2 for norm in of_layers.values()) ** 0.5
        return {"measure/weight_norm": whole} | {
            f"measure/weight_norm/{layer}": norm for layer, norm in of_layers.items()
        }
