"""Wide residual networks for small images, with and without normalization.

The layout is that of Zagoruyko & Komodakis (1605.07146) with pre-activation blocks: WRN-(6k+4)-w has three
stages of k blocks with 16w, 32w and 64w channels at full, half and quarter resolution. Without
normalization it becomes trainable by SkipInit (De & Smith, 2002.10444): x_{l+1} = x_l + α_l f_l(x_l) with one
learnable scalar α_l per residual branch that starts at 0, and biases in the convolutions.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.models.activations import make_activation
from sgdlit.models.layers import Conv2d, Linear

NORMALIZATIONS = ("skipinit", "batchnorm", "groupnorm", "none")
WITH_BIASES = ("skipinit", "none")  # a normalization has biases of its own
GROUPS = 8  # of GroupNorm: 2w channels in a group at full resolution


def make_normalization(name: str, channels: int) -> nn.Module:
    """The layer in front of an activation: none with SkipInit, and without normalization."""
    if name == "batchnorm":
        return nn.BatchNorm2d(channels)
    if name == "groupnorm":
        return nn.GroupNorm(GROUPS, channels)
    return nn.Identity()


class ResidualBlock(nn.Module):
    """x -> shortcut + α · conv(φ(norm(conv(φ(norm(x)))))), with α = 1 unless SkipInit makes it learnable.

    Where the shape changes, the shortcut is a 1x1 convolution of φ(norm(x)); elsewhere it is x.
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int, normalization: str, activation: str) -> None:
        super().__init__()
        bias = normalization in WITH_BIASES
        self.norm1 = make_normalization(normalization, fan_in)
        self.conv1 = Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=bias)
        self.norm2 = make_normalization(normalization, fan_out)
        self.conv2 = Conv2d(fan_out, fan_out, 3, padding=1, bias=bias)
        self.activation = make_activation(activation)
        self.projection = None
        if stride != 1 or fan_in != fan_out:
            self.projection = Conv2d(fan_in, fan_out, 1, stride=stride, bias=bias)
        self.scale = nn.Parameter(torch.zeros(())) if normalization == "skipinit" else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation(self.norm1(x))
        shortcut = x if self.projection is None else self.projection(activated)
        residual = self.conv2(self.activation(self.norm2(self.conv1(activated))))
        return shortcut + (residual if self.scale is None else self.scale * residual)


class WideResNet(nn.Module):
    """WRN-depth-width for 32x32 or 28x28 images.

    Convolutions start as N(0, 2/fan_in) (He et al. 2015), the last layer as N(0, 1/fan_in), biases and
    SkipInit's scalars at 0. WRN-10-1 with SkipInit has 77 709 parameters for 3 channels and 10 classes
    (Smith et al. 2021, appendix). WRN-10-1 with ``none`` is ResNet-8 without BatchNorm, with pre-activation
    blocks: eight layers, not counting the two projections.

    Args:
        depth: 6k + 4 for k blocks per stage: 10, 16, 22, 28, 40 ...
        width: the factor on the 16, 32 and 64 channels of the three stages.
        num_classes: number of outputs.
        in_channels: 3 for CIFAR, 1 for Fashion-MNIST.
        image_size: height and width of the images, 32, 28 or 16.
        normalization: ``skipinit``, ``batchnorm``, ``groupnorm`` (8 groups) or ``none``.
        activation: ``relu``, or ``gelu`` where a smooth network is wanted.

    Shapes: input (batch, in_channels, image_size, image_size), output (batch, num_classes).

    Raises:
        UserError: a depth that is not 6k+4, another image size, an unknown normalization or activation, and,
            in ``forward``, images of another shape.
    """

    def __init__(
        self,
        depth: int = 10,
        width: int = 1,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        normalization: Literal["skipinit", "batchnorm", "groupnorm", "none"] = "skipinit",
        activation: Literal["relu", "gelu"] = "relu",
    ) -> None:
        super().__init__()
        check_arguments(depth, width, image_size, normalization)
        self.image_shape = (in_channels, image_size, image_size)
        blocks_per_stage, channels = (depth - 4) // 6, 16
        self.stem = Conv2d(in_channels, channels, 3, padding=1, bias=normalization in WITH_BIASES)
        blocks = []
        for stage in range(3):
            for block in range(blocks_per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                fan_out = 16 * width * 2**stage
                blocks.append(ResidualBlock(channels, fan_out, stride, normalization, activation))
                channels = fan_out
        self.blocks = nn.Sequential(*blocks)
        self.norm = make_normalization(normalization, channels)
        self.activation = make_activation(activation)
        self.head = Linear(channels, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial parameters from torch's global generator."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=math.sqrt(1 / module.in_features))
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                module.reset_parameters()
            elif isinstance(module, ResidualBlock) and module.scale is not None:
                nn.init.zeros_(module.scale)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.image_shape:
            raise UserError(
                f"images of shape {tuple(x.shape[1:])} do not fit a network for {self.image_shape}"
            )
        x = self.blocks(self.stem(x))
        return self.head(self.activation(self.norm(x)).mean((2, 3)))


def check_arguments(depth: int, width: int, image_size: int, normalization: str) -> None:
    if depth < 10 or (depth - 4) % 6:
        raise UserError(f"depth: {depth} is not allowed; give 6k+4, that is 10, 16, 22, 28, 34, 40, ...")
    if width < 1:
        raise UserError(f"width: {width} is not allowed; give 1 or more")
    if image_size not in (16, 28, 32):
        raise UserError(f"image_size: {image_size} is not allowed; give 16, 28 or 32")
    if normalization not in NORMALIZATIONS:
        raise UserError(
            f"normalization: {normalization!r} is not known; allowed are {', '.join(NORMALIZATIONS)}"
        )
