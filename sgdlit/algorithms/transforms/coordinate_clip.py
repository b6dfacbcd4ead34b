"""Clipping of the largest coordinates of the gradient."""

import torch
from torch import Tensor

from sgdlit.algorithms.transforms.base import Examples, GradientTransform, State
from sgdlit.foundations.errors import UserError


def clip_coordinates(gradient: Tensor, share: float) -> Tensor:
    """min(|g_j|, c)·sign g_j, c the largest |g_j| outside of the ``share`` that is clipped; ``[..., P]``."""
    size = gradient.shape[-1]
    rank = max(1, size - round(share * size))
    threshold = gradient.abs().kthvalue(rank, dim=-1, keepdim=True).values
    return torch.maximum(torch.minimum(gradient, threshold), -threshold)


class CoordinateClip(GradientTransform):
    """The mean gradient, its largest coordinates clipped to the size of the next one.

    Source: Pan & Li 2023, 2306.00204.

    Args:
        share: of all coordinates that is clipped.

    Raises:
        UserError: a share not in [0, 1).
    """

    small = ({"share": 0.1}, {"share": 0.5})

    def __init__(self, share: float = 0.1) -> None:
        if not 0 <= share < 1:
            raise UserError(f"model.transform.share: {share} is not possible; allowed: 0 or more, below 1")
        self.share = share

    def __call__(self, examples: Examples, state: State, step: int) -> tuple[Tensor, State]:
        return clip_coordinates(examples.mean_gradient(), self.share), state
