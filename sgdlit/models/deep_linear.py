"""The deep linear network: a product of matrices, whose function is linear and whose training is not."""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.models.layers import ClosedForm, ClosedFormNetwork
from sgdlit.models.mlp import check_widths


class DeepLinear(ClosedFormNetwork):
    """x -> W_L ... W_1 x, without biases.

    Args:
        widths: sizes of the input, of each hidden layer and of the output.
        init: the standard deviation of a matrix's normal entries at the start. ``xavier_normal``:
            init_scale · sqrt(2 / (fan_in + fan_out)), which is init_scale/√d between layers of width d
            (Glorot & Bengio 2010, eq. 16). ``scaled``: init_scale, whatever the widths.
        init_scale: see ``init``.

    Shapes: input (batch, ...) with widths[0] numbers per example, output (batch, widths[-1]).

    Raises:
        UserError: fewer than two widths, a width below 1, an unknown init, init_scale not positive.
    """

    def __init__(
        self,
        widths: list[int],
        init: Literal["xavier_normal", "scaled"] = "xavier_normal",
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if init not in ("xavier_normal", "scaled"):
            raise UserError(f"init: {init!r} is not known; allowed are xavier_normal, scaled")
        if not init_scale > 0:
            raise UserError(f"init_scale: {init_scale} is not allowed; give a number above 0")
        self.widths = check_widths(widths)
        self.init, self.init_scale = init, init_scale
        self.weights = nn.ParameterList(
            torch.empty(fan_out, fan_in) for fan_in, fan_out in pairwise(self.widths)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial parameters from torch's global generator."""
        for weight in self.weights:
            std = self.init_scale
            if self.init == "xavier_normal":
                std *= math.sqrt(2 / sum(weight.shape))
            nn.init.normal_(weight, std=std)

    @property
    def closed_form(self) -> ClosedForm:
        return "chain"

    @property
    def product(self) -> Tensor:
        """The end-to-end matrix W_L ... W_1, shape (widths[-1], widths[0]): forward(x) = x @ product.T."""
        product = self.weights[0]
        for weight in list(self.weights)[1:]:
            product = weight @ product
        return product

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for weight in self.weights:
            x = nn.functional.linear(x, weight)
        return x
