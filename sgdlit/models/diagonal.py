"""The diagonal linear network: a linear function whose coefficients are products of two parameters."""

import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.models.layers import ClosedForm, ClosedFormNetwork


class DiagonalLinear(ClosedFormNetwork):
    """x -> xᵀβ with β = u ⊙ v.

    Every coordinate starts at u = ``u_start``, v = ``v_start``: nothing is drawn. From u = α, v = 0 the
    function starts at 0, and gradient flow tends to sparser solutions the smaller α is (Woodworth et al.,
    2002.09277).

    Args:
        d: number of inputs.
        u_start: initial value of every entry of u.
        v_start: initial value of every entry of v.

    Shapes: input (batch, d), output (batch, 1).

    Raises:
        UserError: d below 1; a start at which both are zero, where the gradient vanishes.
    """

    def __init__(self, d: int, u_start: float = 0.1, v_start: float = 0.0) -> None:
        super().__init__()
        if d < 1:
            raise UserError(f"d: {d} is not allowed; give 1 or more")
        if u_start == v_start == 0:
            raise UserError("u_start, v_start: 0, 0 is not allowed, the gradient vanishes there")
        self.u_start, self.v_start = u_start, v_start
        self.u, self.v = nn.Parameter(torch.empty(d)), nn.Parameter(torch.empty(d))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set u and v to their initial values."""
        nn.init.constant_(self.u, self.u_start)
        nn.init.constant_(self.v, self.v_start)

    @property
    def closed_form(self) -> ClosedForm:
        return "diagonal"

    @property
    def coefficients(self) -> Tensor:
        """β = u ⊙ v, shape (d,)."""
        return self.u * self.v

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.coefficients).unsqueeze(-1)
