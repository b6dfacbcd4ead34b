"""The perceptron: one linear unit that starts at zero."""

import math

import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError


class Perceptron(nn.Module):
    """x -> w·x/√d from w = 0: nothing is drawn.

    Args:
        d: number of inputs.

    Shapes: input (batch, d), output (batch, 1).

    Raises:
        UserError: d below 1.
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        if d < 1:
            raise UserError(f"d: {d} is not allowed; give 1 or more")
        self.d = d
        self.w = nn.Parameter(torch.empty(d))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set w to 0."""
        nn.init.zeros_(self.w)

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.w / math.sqrt(self.d)).unsqueeze(-1)
