"""Clipping of a gradient's largest coordinates."""

import torch
from torch import Tensor


def clip_coordinates(gradient: Tensor, share: float) -> Tensor:
    """sign(g)·min(|g|, c), where the share of the coordinates that are clipped lies above c.

    Source: Pan & Li 2023, 2306.00204, section 5.

    Args:
        gradient: g, of all tensors together, ``[P]``.
        share: of the coordinates, 0 to 1.
    """
    limit = gradient.abs().quantile(1 - share)
    return torch.clamp(gradient, -limit, limit)
