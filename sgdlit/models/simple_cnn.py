"""The "Simple CNN" of Shallue et al. 2018 (arXiv 1811.03600): two convolutions and a hidden layer."""

import math

from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.models.layers import Conv2d, Linear


class SimpleCNN(nn.Module):
    """Two 5x5 convolutions, each with ReLU and 2x2 max pooling, a hidden layer with ReLU, and the output.

    Weights start as N(0, 2/fan_in) (He et al. 2015), those of the last layer as N(0, 1/fan_in), biases at 0.
    Widths are recalled, not quoted: with them and 28x28x1 images there are 3 274 634 parameters.

    Args:
        channels: of the two convolutions.
        hidden: size of the hidden layer.
        num_classes: number of outputs.
        in_channels: 1 for Fashion-MNIST, 3 for CIFAR.
        image_size: height and width of the images, at least 4; the poolings leave out what is over.

    Shapes: input (batch, in_channels, image_size, image_size), output (batch, num_classes).

    Raises:
        UserError: not two numbers of channels, a size below 1, an image size below 4, and, in ``forward``,
            images of another shape.
    """

    def __init__(
        self,
        channels: tuple[int, int] = (32, 64),
        hidden: int = 1024,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
    ) -> None:
        super().__init__()
        if len(channels) != 2 or min(*channels, hidden) < 1:
            raise UserError(
                f"channels: {list(channels)} with hidden: {hidden} is not allowed; give two numbers of "
                "channels, and sizes of 1 or more"
            )
        if image_size < 4:
            raise UserError(f"image_size: {image_size} is not allowed; give 4 or more, such as 28 or 32")
        self.image_shape = (in_channels, image_size, image_size)
        first, second = channels
        self.layers = nn.Sequential(
            Conv2d(in_channels, first, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            Conv2d(first, second, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), Linear(second * (image_size // 4) ** 2, hidden), nn.ReLU(),
            Linear(hidden, num_classes),
        )  # fmt: skip
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial parameters from torch's global generator."""
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                squared_gain = 1 if layer is self.layers[-1] else 2
                nn.init.normal_(layer.weight, std=math.sqrt(squared_gain / layer.weight[0].numel()))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.image_shape:
            raise UserError(
                f"images of shape {tuple(x.shape[1:])} do not fit a network for {self.image_shape}"
            )
        return self.layers(x)
