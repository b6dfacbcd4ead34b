"""A network that is 1-Lipschitz and loses no gradient: orthonormal layers, and GroupSort between them."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.models.layers import Linear
from sgdlit.models.mlp import check_widths

_ITERATIONS = 20  # a singular value of 1/25 after scaling is 1 to 1e-15 then


def orthonormal(weight: Tensor, iterations: int = _ITERATIONS) -> Tensor:
    """The matrix with the same singular vectors and all singular values 1, differentiably.

    Björck & Bowie 1971: W ← (3W − W Wᵀ W)/2, from W/√(‖W‖₁‖W‖_∞), whose singular values are at most 1. Rows
    are orthonormal, or columns where there are fewer of those.

    Args:
        weight: ``[outputs, inputs]``, of full rank.
        iterations: of Björck's.
    """
    size = weight.abs()
    w = weight / (size.sum(0).amax() * size.sum(1).amax()).sqrt()
    for _ in range(iterations):
        gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        w = 1.5 * w - 0.5 * (gram @ w if w.shape[0] <= w.shape[1] else w @ gram)
    return w


def sort_pairs(x: Tensor) -> Tensor:
    """Each pair of neighbours, the larger first: ``[..., 2k]``, of which every gradient keeps its length."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((torch.maximum(first, second), torch.minimum(first, second)), -1).flatten(-2)


class OrthonormalLinear(Linear):
    """x → W x + b with W = :func:`orthonormal` of the parameter ``weight``."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, orthonormal(self.weight), self.bias)


class GroupSortMLP(nn.Module):
    """x → W_L s( ... s(W_1 x) ... ) with orthonormal W_l and s the sorting of neighbours in pairs.

    ‖f(x) − f(x')‖ ≤ ‖x − x'‖, and without biases ‖∂f/∂W_l‖_F ≤ ‖x‖ for a single output, with equality where
    no layer has more outputs than inputs before the last (Anil, Lucas & Grosse 2019, 1811.05381; Béthune et
    al. 2023, 2305.16202). Parameters start as random orthogonal matrices, biases at 0.

    Args:
        widths: sizes of the input, of each hidden layer (even) and of the output.
        bias: whether layers have biases.

    Shapes: input ``[B, ...]`` with widths[0] numbers per example, output ``[B, widths[-1]]``.

    Raises:
        UserError: fewer than two widths, a width below 1, or a hidden width that has no pairs.
    """

    def __init__(self, widths: list[int], bias: bool = False) -> None:
        super().__init__()
        self.widths = check_widths(widths)
        odd = [width for width in self.widths[1:-1] if width % 2]
        if odd:
            raise UserError(f"widths: a hidden layer of {odd[0]} has no pairs to sort; allowed: even sizes")
        self.layers = nn.ModuleList(OrthonormalLinear(a, b, bias=bias) for a, b in pairwise(self.widths))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial parameters from torch's global generator."""
        for layer in self.layers:
            assert isinstance(layer, OrthonormalLinear)
            nn.init.orthogonal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = sort_pairs(layer(x))
        return self.layers[-1](x)
