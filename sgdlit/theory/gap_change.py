"""How a step of gradient descent changes the generalisation gap, by enumeration and by expansion (F15, F16).

A population of K examples is all there is: training sets of N are drawn from it with replacement, so each of
the K^N lists is as probable, and the test loss L_B is the mean over the population. At parameters w that do
not depend on the training set A, with the gradients of single examples of mean μ and covariance 𝒞 and the
mean Hessian H̄::

    E[Δ(L_B − L_A)] = (ε/N) tr 𝒞 + O(ε²)                                                    one step (F15)
    E[ΔL_B] on two batches − on one batch twice = −(ε²/N)[tr(H̄𝒞) + ½ μ·∇tr 𝒞] + O(ε³)       two steps (F16)

Source: Roberts 2021, arXiv 2104.04874; F16 is derived for this package.
"""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad, hessian, jacrev, vmap

from sgdlit.foundations.errors import UserError

ExampleLosses = Callable[[Tensor], Tensor]
"""The losses of all examples of the population, ``[P] -> [K]``, float64."""

_LISTS = 100_000


class Predicted(NamedTuple):
    """tr 𝒞, tr(H̄𝒞) and ½ μ·∇tr 𝒞 at some parameters."""

    trace: float
    curvature: float
    slope: float


def trace_of_covariance(losses: ExampleLosses) -> Callable[[Tensor], Tensor]:
    """w -> tr 𝒞(w) = mean_i ‖g_i − μ‖², which can be differentiated."""

    def trace(w: Tensor) -> Tensor:
        each = jacrev(losses)(w)
        return (each - each.mean(0)).square().sum(1).mean()

    return trace


def predicted(losses: ExampleLosses, w: Tensor) -> Predicted:
    """What the expansions are made of, at w, ``[P]``."""
    each = jacrev(losses)(w)
    mean, trace = each.mean(0), trace_of_covariance(losses)
    apart = each - mean
    curved = hessian(lambda v: losses(v).mean())(w)
    curvature = torch.einsum("kp,pq,kq->k", apart, curved, apart).mean()
    return Predicted(float(trace(w)), float(curvature), float(0.5 * mean @ grad(trace)(w)))


def training_sets(population: int, size: int) -> Tensor:
    """All lists of N examples with repetition, int64 ``[K^N, N]``.

    Raises:
        UserError: more than a hundred thousand.
    """
    if population**size > _LISTS:
        raise UserError(f"{population}^{size} training sets to enumerate; the limit is {_LISTS}")
    return torch.tensor(list(product(range(population), repeat=size)))


def _after(losses: ExampleLosses, starts: Tensor, sets: Tensor, lr: float) -> Tensor:
    """One step from each start, ``[M, P]``, on its own training set, ``[M, N]``."""
    gradients = vmap(jacrev(losses))(starts)
    chosen = gradients.gather(1, sets.unsqueeze(-1).expand(-1, -1, starts.shape[1]))
    return starts - lr * chosen.mean(1)


def gap_change(losses: ExampleLosses, w: Tensor, size: int, lr: float) -> float:
    """E[Δ(L_B − L_A)] of one step on a training set of N, averaged over all of them."""
    before = losses(w)
    sets = training_sets(len(before), size)
    after = vmap(losses)(_after(losses, w.expand(len(sets), -1), sets, lr))
    of_test = after.mean(1) - before.mean()
    of_training = after.gather(1, sets).mean(1) - before[sets].mean(1)
    return float((of_test - of_training).mean())


def fresh_against_same(losses: ExampleLosses, w: Tensor, size: int, lr: float) -> float:
    """E[ΔL_B] of two steps on two independent batches of N less that on one batch twice; over all of them."""
    sets = training_sets(len(losses(w)), size)
    once = _after(losses, w.expand(len(sets), -1), sets, lr)
    count = len(sets)
    starts, second = once.repeat_interleave(count, 0), sets.repeat(count, 1)
    fresh = vmap(losses)(_after(losses, starts, second, lr)).mean()
    same = vmap(losses)(_after(losses, once, sets, lr)).mean()
    return float(fresh - same)


def tanh_network(inputs: Tensor, targets: Tensor, hidden: int) -> ExampleLosses:
    """½(aᵀtanh(Wx) − y)² of a network d–h–1 without biases, w = (W, a), of h(d + 1) numbers.

    Args:
        inputs: x, ``[K, d]``.
        targets: y, ``[K]``.
        hidden: h.
    """
    first = hidden * inputs.shape[1]

    def losses(w: Tensor) -> Tensor:
        units = torch.tanh(inputs @ w[:first].view(hidden, -1).T)
        return 0.5 * (units @ w[first:] - targets) ** 2

    return losses
