"""The size of minibatch gradients over all minibatches of one size: Eqs 2 and 22 of Smith et al. 2021.

With per-example gradients ∇C_i (N of them), ∇C their mean and Γ = (1/N) Σ_i ‖∇C_i − ∇C‖², a minibatch of B
examples drawn without replacement has::

    E‖∇Ĉ‖² = ‖∇C‖² + (N−B)/(N−1) · Γ/B              (Eqs 21, 22, 27–32)

and the m = N/B minibatches of one split have (1/m) Σ_k ‖∇Ĉ_k‖² = ‖∇C‖² + (1/m) Σ_k ‖∇Ĉ_k − ∇C‖² (Eq 2).
"""

from itertools import combinations
from math import comb

import torch
from torch import Tensor

from sgdlit.foundations.errors import UserError

SUBSET_LIMIT = 1_000_000


def gradient_covariance_trace(gradients: Tensor) -> Tensor:
    """Γ = (1/N) Σ_i ‖∇C_i − ∇C‖² of per-example gradients [N, P]."""
    return (gradients - gradients.mean(0)).square().sum(1).mean()


def expected_square_norm(gradients: Tensor, batch_size: int) -> Tensor:
    """E‖∇Ĉ‖² by Eq 22, from per-example gradients [N, P]."""
    count = len(gradients)
    _check(count, batch_size)
    finite = (count - batch_size) / (count - 1) if count > 1 else 0.0
    return gradients.mean(0).square().sum() + finite * gradient_covariance_trace(gradients) / batch_size


def enumerated_square_norm(gradients: Tensor, batch_size: int) -> Tensor:
    """E‖∇Ĉ‖² by averaging over all N-choose-B minibatches, from per-example gradients [N, P].

    Raises:
        UserError: a batch size outside 1 … N, or more than a million subsets.
    """
    count = len(gradients)
    _check(count, batch_size)
    if comb(count, batch_size) > SUBSET_LIMIT:
        raise UserError(
            f"N = {count}, batch_size = {batch_size}: {comb(count, batch_size)} subsets to enumerate, "
            f"the limit is {SUBSET_LIMIT}"
        )
    subsets = torch.tensor(list(combinations(range(count), batch_size)))
    return torch.stack([gradients[s].mean(1).square().sum(1).sum() for s in subsets.split(4096)]).sum() / len(
        subsets
    )


def split_square_norm(minibatch_gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Both sides of Eq 2 for the minibatch gradients [m, P] of one split of the data.

    Returns:
        (1/m) Σ_k ‖∇Ĉ_k‖², and ‖∇C‖² + (1/m) Σ_k ‖∇Ĉ_k − ∇C‖².
    """
    mean = minibatch_gradients.mean(0)
    spread = (minibatch_gradients - mean).square().sum(1).mean()
    return minibatch_gradients.square().sum(1).mean(), mean.square().sum() + spread


def _check(count: int, batch_size: int) -> None:
    if not 1 <= batch_size <= count:
        raise UserError(f"batch_size = {batch_size}: must lie between 1 and the number of examples, {count}")
