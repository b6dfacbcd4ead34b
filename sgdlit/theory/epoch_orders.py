"""One epoch of SGD in many orders of the same fixed minibatches at once.

The mean iterate E(ω_m) of Smith et al. 2021 is a mean over the m! orders. Up to m = 6 all are enumerated.
Beyond, orders are sampled in pairs, an order and its reverse: the second-order term ξ of Eq 13 plus that of
the reversed order is Σ_{j≠k} ∇∇Ĉ_j ∇Ĉ_k whatever the order (Eq 15), so every single pair has the exact mean
to O(m³ε³) and only the third order is sampled.
"""

from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor
from torch.func import grad, vmap

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key, permutation
from sgdlit.theory.losses import FlatLoss

ENUMERATION_LIMIT = 6


def all_orders(m: int) -> Tensor:
    """Every order of m minibatches, int64 [m!, m].

    Raises:
        UserError: m < 1, or m above the enumeration limit of 6 (7! = 5040 epochs for one point).
    """
    if m < 1:
        raise UserError(f"m = {m}: an epoch has at least one minibatch")
    if m > ENUMERATION_LIMIT:
        raise UserError(
            f"m = {m}: all m! orders are enumerated up to m = {ENUMERATION_LIMIT} only; "
            "sample them in forward/reversed pairs instead (paired_orders, option order_pairs)"
        )
    return torch.tensor(list(permutations(range(m))), dtype=torch.int64)


def paired_orders(m: int, pairs: int, seed: int) -> Tensor:
    """``pairs`` random orders of m minibatches and their reverses, int64 [2·pairs, m]."""
    if m < 1 or pairs < 1:
        raise UserError(f"m = {m}, pairs = {pairs}: both must be at least 1")
    key = derive_key(seed, "theory/orders")
    forward = torch.stack([permutation(key, m, substream=i) for i in range(pairs)])
    return torch.cat([forward, forward.flip(1)])


def sgd_endpoints(losses: Sequence[FlatLoss], start: Tensor, lr: float, orders: Tensor, n: int = 1) -> Tensor:
    """The iterates after one pass over each order, with n updates in a row on each minibatch.

    Args:
        losses: m minibatch losses of a flat vector.
        start: float64 [P].
        lr: the rate of a single update (the bare rate α of n-step SGD).
        orders: int64 [R, L], indices of minibatches; a row need not be a permutation.
        n: updates per visit.

    Returns:
        float64 [R, P].
    """
    if n < 1:
        raise UserError(f"n = {n}: n-step SGD takes at least one update per minibatch")
    w = start.to(torch.float64).repeat(len(orders), 1)
    gradients = [vmap(grad(loss)) for loss in losses]
    for visit in orders.unbind(1):
        for k in visit.unique().tolist():
            rows = visit == k
            here = w[rows]
            for _ in range(n):
                here = here - lr * gradients[k](here)
            w[rows] = here
    return w


def mean_and_spread(iterates: Tensor) -> tuple[Tensor, float]:
    """The mean over orders, [P], and the root mean squared distance from it."""
    mean = iterates.mean(0)
    return mean, (iterates - mean).square().sum(1).mean().sqrt().item()
