"""Which numbers of a row are its largest: what is let through where only the largest are."""

import torch
from torch import Tensor


def largest(scores: Tensor, count: int) -> Tensor:
    """True at the ``count`` largest of the last dimension: from ``[..., n]`` to bool ``[..., n]``."""
    chosen = scores.topk(count, dim=-1, sorted=False).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, chosen, True)
