"""The multilayer perceptron: fully connected layers of any widths with one activation between them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.models.activations import SQUARED_GAINS, make_activation
from sgdlit.models.layers import Linear


def check_widths(widths: Sequence[int]) -> list[int]:
    """``widths`` as a list, if it names at least an input and an output of positive size."""
    if len(widths) < 2 or any(width < 1 for width in widths):
        raise UserError(f"widths: {list(widths)} is not allowed; give at least two sizes, each 1 or more")
    return list(widths)


class MLP(nn.Module):
    """x -> W_L φ( ... φ(W_1 x + b_1) ... ) + b_L.

    Weights start as N(0, gain²/fan_in) with gain² = 2 for ReLU and GELU (He et al. 2015) and 1 for tanh and
    identity; biases start at 0.

    Args:
        widths: sizes of the input, of each hidden layer and of the output.
        activation: between the layers.
        bias: whether layers have biases.

    Shapes: input (batch, ...) with widths[0] numbers per example, output (batch, widths[-1]).

    Raises:
        UserError: fewer than two widths, a width below 1, an unknown activation.
    """

    def __init__(
        self,
        widths: list[int],
        activation: Literal["relu", "gelu", "tanh", "identity"] = "relu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.widths = check_widths(widths)
        self.activation = activation
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(self.widths):
            layers += [Linear(fan_in, fan_out, bias=bias), make_activation(activation)]
        self.layers = nn.Sequential(*layers[:-1])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial parameters from torch's global generator."""
        for module in self.layers:
            if isinstance(module, nn.Linear):
                nn.init.normal_(
                    module.weight, std=math.sqrt(SQUARED_GAINS[self.activation] / module.in_features)
                )
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
