"""A faster second derivative of convolutions.

PyTorch differentiates a convolution's backward pass by writing it as further convolutions, among them some
with the batch as channels and whole images as kernels, for which libraries have no good code. A convolution
is linear in its input x and in its weight W, so its backward pass can be differentiated with the same three
operations that it consists of itself. With gO the gradient at the output, and ggI, ggW, ggb the gradients
that arrive at the gradients of input, weight and bias:

    at gO:  conv(ggI, W) + conv(x, ggW) + ggb
    at x:   the input gradient of a convolution with weight ggW, at gO
    at W:   the weight gradient of a convolution with input ggI, at gO

This holds for any stride, padding, dilation and groups, and for transposed convolutions. ``register`` puts it
in the place of PyTorch's own formula, in the whole process and for every network, on CPU and CUDA; forward
and first backward passes are not touched. Whatever takes a second derivative here calls it first; importing
this file changes nothing.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

aten = torch.ops.aten


def convolution_double_backward(
    ggI: Tensor | None,
    ggW: Tensor | None,
    ggb: Tensor | None,
    gO: Tensor,
    weight: Tensor,
    x: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients at gO, x and weight; the signature is that of ``aten::_convolution_double_backward``."""
    geometry = (stride, padding, dilation, transposed, output_padding, groups)
    at_gO = at_x = at_weight = None
    if output_mask[0]:
        at_gO = gradient_at_output(ggI, ggW, ggb, gO, weight, x, geometry)
    if output_mask[1] and ggW is not None:
        at_x = aten.convolution_backward(gO, x, ggW, None, *geometry, (True, False, False))[0]
    if output_mask[2] and ggI is not None:
        at_weight = aten.convolution_backward(gO, ggI, weight, None, *geometry, (False, True, False))[1]
    return at_gO, at_x, at_weight


def gradient_at_output(
    ggI: Tensor | None,
    ggW: Tensor | None,
    ggb: Tensor | None,
    gO: Tensor,
    weight: Tensor,
    x: Tensor,
    geometry: tuple,
) -> Tensor | None:
    """conv(ggI, W) + conv(x, ggW) + ggb, the terms that there are; the bias goes into the first."""
    total = None
    for image, kernel in ((ggI, weight), (x, ggW)):
        if image is not None and kernel is not None:
            term = aten.convolution(image, kernel, ggb if total is None else None, *geometry)
            total = term if total is None else total + term
    if total is None and ggb is not None:
        total = ggb.reshape(-1, *[1] * (gO.dim() - 2)).expand_as(gO)
    return total


@cache
def register() -> torch.library.Library:
    """Use ``convolution_double_backward`` from now on, in this process. Calling it again does nothing."""
    library = torch.library.Library("aten", "IMPL")
    for key in ("AutogradCPU", "AutogradCUDA"):
        library.impl("_convolution_double_backward", convolution_double_backward, key)
    return library
