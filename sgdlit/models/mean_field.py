"""The two-layer network in the mean-field scaling: a mean over neurons."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.models.activations import make_activation


class MeanField(nn.Module):
    """x -> (1/N) Σ_k a_k φ(w_k·x + b_k), with N neurons.

    A learning rate ∝ N moves each neuron by O(1) (Mei, Montanari & Nguyen 2018, 1804.06561).

    Args:
        inputs: d, numbers per example.
        neurons: N.
        start: ``normal``: w_k ~ N(0, s²/d), b_k ~ N(0, t²), a_k ~ N(0, s²); ``sphere``: w_k uniform on the
        sphere
            of radius s, a_k = ±s, b_k = 0.
        scale: s.
        bias_scale: t, of ``normal``.
        bias: whether neurons have biases.
        activation: φ.

    Shapes: input (batch, ...) with d numbers per example, output (batch, 1).

    Raises:
        UserError: a size below 1; an unknown start or activation; a scale that is not positive.
    """

    def __init__(
        self,
        inputs: int,
        neurons: int,
        start: Literal["normal", "sphere"] = "normal",
        scale: float = 1.0,
        bias_scale: float = 0.0,
        bias: bool = True,
        activation: Literal["relu", "gelu", "tanh", "identity"] = "relu",
    ) -> None:
        super().__init__()
        for name, value in {"inputs": inputs, "neurons": neurons}.items():
            if value < 1:
                raise UserError(f"{name}: {value} is not allowed; give 1 or more")
        if start not in ("normal", "sphere"):
            raise UserError(f"start: {start!r} is not allowed; allowed: normal, sphere")
        if not 0 < scale < float("inf"):
            raise UserError(f"scale: {scale} is not allowed; give a number above 0")
        if not 0 <= bias_scale < float("inf") or (bias_scale and not bias):
            raise UserError(f"bias_scale: {bias_scale} is not allowed; give 0 or more, and 0 without biases")
        self.start, self.scale, self.bias_scale = start, scale, bias_scale
        self.activation = make_activation(activation)
        self.w = nn.Parameter(torch.empty(neurons, inputs))
        self.b = nn.Parameter(torch.empty(neurons)) if bias else None
        self.a = nn.Parameter(torch.empty(neurons))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial parameters from torch's global generator."""
        with torch.no_grad():
            nn.init.normal_(self.w)
            nn.init.normal_(self.a)
            if self.start == "sphere":
                self.w.mul_(self.scale / self.w.norm(dim=1, keepdim=True))
                self.a.copy_(self.scale * torch.where(self.a < 0, -1.0, 1.0))
            else:
                self.w.mul_(self.scale / math.sqrt(self.w.shape[1]))
                self.a.mul_(self.scale)
            if self.b is not None:
                nn.init.normal_(self.b, std=self.bias_scale)

    def forward(self, x: Tensor) -> Tensor:
        units = self.activation(nn.functional.linear(x.flatten(1), self.w, self.b))
        return (units @ self.a / len(self.a)).unsqueeze(-1)
