"""Networks for matrix sensing: the prediction for a pair (a, b) is net(a)·b."""

from typing import Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.models.deep_linear import DeepLinear
from sgdlit.models.layers import ClosedForm, ClosedFormNetwork, Linear


@runtime_checkable
class BetweenVectors(Protocol):
    """What the bilinear form needs of a network."""

    widths: list[int]
    """Sizes of the input, of each hidden layer and of the output."""

    def reset_parameters(self) -> None:
        """Draw new initial parameters."""

    def __call__(self, x: Tensor) -> Tensor:
        """Output ``[batch, widths[-1]]`` for input ``[batch, widths[0]]``."""


class BilinearForm(ClosedFormNetwork):
    """(a, b) -> net(a)·b.

    Args:
        net: a network from d to d numbers; with :class:`DeepLinear` the prediction is aᵀMb, where M is the
            transposed product of its matrices.

    Shapes: input (batch, 2, d), the pairs (a, b); output (batch, 1).

    Raises:
        UserError: a network that does not tell its sizes; in ``forward``, pairs that do not fit the network.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        if not isinstance(net, BetweenVectors):
            raise UserError(
                f"net: {type(net).__name__} has no `widths` or no `reset_parameters`; allowed: networks that "
                "have both, such as DeepLinear, NormalizedStack and MLP"
            )
        self.net = net

    def reset_parameters(self) -> None:
        """Draw new initial parameters from torch's global generator."""
        self.net.reset_parameters()

    @property
    def closed_form(self) -> ClosedForm | None:
        return "bilinear" if isinstance(self.net, DeepLinear) else None

    @property
    def matrix(self) -> Tensor | None:
        """M (d, d) with prediction aᵀMb; None if the network is not linear."""
        return self.net.product.T if isinstance(self.net, DeepLinear) else None

    def forward(self, pairs: Tensor) -> Tensor:
        a, b = pairs.unbind(1)
        widths = self.net.widths
        if a.shape[-1] != widths[0] or b.shape[-1] != widths[-1]:
            raise UserError(
                f"data.d: pairs of {a.shape[-1]} numbers do not fit a network from {widths[0]} to "
                f"{widths[-1]} numbers"
            )
        return (self.net(a) * b).sum(-1, keepdim=True)


class NormalizedStack(nn.Module):
    """Equal layers of width d, linear (without bias), normalized and rectified, the last one only linear.

    ``batchnorm``: depth × [Linear, BatchNorm1d, ReLU] without the last two; ``layernorm``: depth × [Linear,
    ReLU, LayerNorm] without the last two. Entries of the matrices start uniform on ±1/√d, as PyTorch has it
    (standard deviation 1/√(3d)).

    Args:
        width: d.
        depth: number of linear layers.
        normalization: ``batchnorm`` or ``layernorm``.

    Shapes: input (batch, d), output (batch, d).

    Raises:
        UserError: a width or depth below 1, an unknown normalization.
    """

    def __init__(
        self, width: int, depth: int = 10, normalization: Literal["batchnorm", "layernorm"] = "batchnorm"
    ) -> None:
        super().__init__()
        if min(width, depth) < 1:
            raise UserError(f"width: {width}, depth: {depth} is not allowed; give 1 or more of each")
        if normalization not in ("batchnorm", "layernorm"):
            raise UserError(
                f"normalization: {normalization!r} is not known; allowed are batchnorm, layernorm"
            )
        self.widths = [width] * (depth + 1)
        layers: list[nn.Module] = []
        for _ in range(depth):
            after: list[nn.Module] = [nn.BatchNorm1d(width), nn.ReLU()]
            if normalization == "layernorm":
                after = [nn.ReLU(), nn.LayerNorm(width)]
            layers += [Linear(width, width, bias=False), *after]
        self.layers = nn.Sequential(*layers[:-2])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial parameters from torch's global generator."""
        for module in self.layers:
            if isinstance(module, nn.Linear):
                nn.init.uniform_(module.weight, -(module.in_features**-0.5), module.in_features**-0.5)
            elif isinstance(module, nn.BatchNorm1d | nn.LayerNorm):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
