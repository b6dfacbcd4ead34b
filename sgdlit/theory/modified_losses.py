"""The modified losses on whose gradient flow discrete updates lie, to one order higher than on C itself.

With C = (1/m) Σ_k Ĉ_k, updates ω ← ω − α∇Ĉ_k, n in a row on each minibatch (Smith et al. 2021,
arXiv 2101.12176)::

    C̃_GD   = C + (ε/4) ‖∇C‖²                        Eq 11, the limit B → N of Eq 2
    C̃_SGD  = C + (ε/4m) Σ_k ‖∇Ĉ_k‖²                 Eqs 1 and 20
    C̃_nSGD = C + (α/4m) Σ_k ‖∇Ĉ_k‖²,  α = ε/n       Eq 39: the bare rate α decides, not ε = nα

so one function serves all three: gradient descent is one minibatch that holds everything, and n-step SGD
takes the bare rate.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import grad

from sgdlit.objectives.penalty import modified_value
from sgdlit.theory.losses import FlatLoss, mean_loss


def flat_modified_loss(losses: Sequence[FlatLoss], lr: float) -> FlatLoss:
    """C̃(ω), the mean over k of the modified loss of Ĉ_k with the strength ``lr``, Eqs 1, 20 and 39.

    Args:
        losses: the m minibatch losses Ĉ_k.
        lr: the rate of a single update (the bare rate α of n-step SGD). 0 gives C.

    Returns:
        A differentiable function [P] -> [].
    """

    def one(loss: FlatLoss, w: Tensor) -> Tensor:
        return modified_value(loss(w), grad(loss)(w).square().sum(), lr)

    def modified(w: Tensor) -> Tensor:
        return torch.stack([one(loss, w) for loss in losses]).mean()

    return modified if lr != 0 else mean_loss(losses)


def flat_modified_loss_gd(losses: Sequence[FlatLoss], lr: float) -> FlatLoss:
    """C̃_GD of full-batch gradient descent, Eq 11."""
    return flat_modified_loss([mean_loss(losses)], lr)
