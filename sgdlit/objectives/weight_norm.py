"""A right second derivative of the weight norm w = g·v/‖v‖ (Salimans & Kingma 2016, 1602.07868).

PyTorch differentiates its fused backward pass as if ‖v‖ were a constant, so that second derivatives by v lack
terms: products with the Hessian of a network with weight norm, and the gradient of its explicit regularizer,
are off by some ten percent (torch 2.13; ``_weight_norm_differentiable_backward``). ``register`` puts the
same formulas, with a norm that is computed again, in their place: in the whole process, and only where a
backward pass is itself recorded. Forward and first backward passes are not touched.
"""

from functools import cache

import torch
from torch import Tensor


def weight_norm_backward(
    grad_w: Tensor, v: Tensor, g: Tensor, norms: Tensor, dim: int
) -> tuple[Tensor, Tensor]:
    """The gradients by v and g; the signature is that of ``aten::_weight_norm_differentiable_backward``.

    Args:
        grad_w: gradient by w, of the shape of w.
        v: direction.
        g: length of each slice along ``dim``, of w's shape with 1 in other dimensions.
        norms: ‖v‖ of each slice as the forward pass found it, without a graph.
        dim: that slices are taken along.
    """
    others = [k for k in range(v.dim()) if k != dim % v.dim()]
    norms = torch.linalg.vector_norm(v, dim=others, keepdim=True, dtype=norms.dtype).to(g.dtype)
    along = (grad_w * v).sum(others, keepdim=True)
    grad_v = (g / norms) * (grad_w - v * (along / norms.square()))
    return grad_v, (along / norms).view_as(g)


@cache
def register() -> torch.library.Library:
    """Use ``weight_norm_backward`` from now on, in this process. Calling it again does nothing."""
    library = torch.library.Library("aten", "IMPL")
    for key in ("AutogradCPU", "AutogradCUDA"):
        library.impl("_weight_norm_differentiable_backward", weight_norm_backward, key)
    return library
