"""How far discrete training ends from gradient flow, on C and on the modified loss: claims M1 to M6.

After one epoch of m updates of rate ε, with time mε on the flow (Smith et al. 2021, arXiv 2101.12176):

=====  ======================================  =====================  ==============================
claim  what is measured                        against                distance ~ εˢ
=====  ======================================  =====================  ==============================
M1     mean iterate over the orders of SGD     flow on C̃_SGD; on C    s = 3; 2 (Eqs 1, 18–20)
M2     r.m.s. spread over the orders           0                      s = 2 (Eq 13)
M3     an epoch and its reverse, one order     flow on C̃_SGD; on C    s = 3; 2, for time 2mε
M4     m updates of gradient descent           flow on C̃_GD; on C     s = 3; 2 (Eq 11)
M6     mean iterate of n-step SGD, α = ε/n     C̃ with α; with ε       s = 3; 2 for n > 1 (Eq 39)
=====  ======================================  =====================  ==============================

M5 (Eqs 2 and 22) is an identity and is compared in :func:`penalty_identities`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from sgdlit.foundations.errors import UserError
from sgdlit.theory.epoch_orders import all_orders, mean_and_spread, paired_orders, sgd_endpoints
from sgdlit.theory.flow import gradient_flow
from sgdlit.theory.losses import FlatLoss, mean_loss
from sgdlit.theory.minibatch_penalty import enumerated_square_norm, expected_square_norm, split_square_norm
from sgdlit.theory.modified_losses import flat_modified_loss, flat_modified_loss_gd


@dataclass(frozen=True)
class SlopeCurve:
    """Distances at each learning rate, and the power of the rate that theory gives them."""

    claim: str
    label: str
    lrs: tuple[float, ...]
    distances: tuple[float, ...]
    slope: int

    def fitted_slope(self) -> float:
        """Least squares in log–log coordinates."""
        return fitted_slope(self.lrs, self.distances)


def fitted_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of log y over log x by least squares.

    Raises:
        UserError: fewer than two points, or values that are not positive.
    """
    if len(x) < 2 or min(*x, *y) <= 0:
        raise UserError("a log–log slope needs at least two points, all positive")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


@dataclass(frozen=True)
class Comparison:
    """One problem at one learning rate; every method returns distances between endpoints."""

    losses: Sequence[FlatLoss]
    start: Tensor
    orders: Tensor
    lr: float

    @property
    def epoch_time(self) -> float:
        return len(self.losses) * self.lr

    def flow(self, loss: FlatLoss, epochs: int = 1) -> Tensor:
        return gradient_flow(loss, self.start, epochs * self.epoch_time)

    def sgd(self, n: int = 1) -> tuple[Tensor, float]:
        """Mean iterate and spread over orders of n-step SGD with effective rate ``lr``."""
        return mean_and_spread(sgd_endpoints(self.losses, self.start, self.lr / n, self.orders, n))

    def there_and_back(self) -> Tensor:
        """The iterate after the first order and then its reverse."""
        order = self.orders[:1]
        return sgd_endpoints(self.losses, self.start, self.lr, torch.cat([order, order.flip(1)], 1))[0]

    def gradient_descent(self) -> Tensor:
        steps = torch.zeros(1, len(self.losses), dtype=torch.int64)
        return sgd_endpoints([mean_loss(self.losses)], self.start, self.lr, steps)[0]


def orders_for(m: int, order_pairs: int | None, seed: int) -> Tensor:
    """All m! orders (an error beyond m = 6), or ``order_pairs`` sampled forward/reversed pairs."""
    return all_orders(m) if order_pairs is None else paired_orders(m, order_pairs, seed)


def slope_curves(
    losses: Sequence[FlatLoss],
    start: Tensor,
    lrs: Sequence[float],
    orders: Tensor,
    n_steps: Sequence[int] = (1, 2, 4),
    on_progress: Callable[[], None] = lambda: None,
) -> list[SlopeCurve]:
    """The curves of M1, M2, M3, M4 and M6.

    Args:
        losses: the m minibatch losses, smooth.
        start: float64 [P].
        lrs: effective rates ε, at least two; the powers are those of ε → 0.
        orders: from :func:`orders_for`.
        n_steps: the n of M6.
        on_progress: called once per rate.
    """
    if len(lrs) < 2 or min(lrs) <= 0:
        raise UserError(f"lrs = {list(lrs)}: a slope needs at least two rates, all positive")
    table: dict[tuple[str, str, int], list[float]] = {}
    for lr in lrs:
        for claim, label, slope, distance in _distances(Comparison(losses, start, orders, lr), n_steps):
            table.setdefault((claim, label, slope), []).append(distance)
        on_progress()
    return [SlopeCurve(c, label, tuple(lrs), tuple(d), slope) for (c, label, slope), d in table.items()]


def _distances(at: Comparison, n_steps: Sequence[int]) -> Iterator[tuple[str, str, int, float]]:
    """(claim, label, predicted slope, distance) at one learning rate."""
    bare, modified = at.flow(mean_loss(at.losses)), at.flow(flat_modified_loss(at.losses, at.lr))
    mean, spread = at.sgd()
    yield "M1", "to flow on the modified loss", 3, _distance(mean, modified)
    yield "M1", "to flow on C", 2, _distance(mean, bare)
    yield "M2", "spread over orders", 2, spread
    returned = at.there_and_back()
    yield (
        "M3",
        "to flow on the modified loss",
        3,
        _distance(returned, at.flow(flat_modified_loss(at.losses, at.lr), 2)),
    )
    yield "M3", "to flow on C", 2, _distance(returned, at.flow(mean_loss(at.losses), 2))
    descended = at.gradient_descent()
    yield (
        "M4",
        "to flow on the modified loss",
        3,
        _distance(descended, at.flow(flat_modified_loss_gd(at.losses, at.lr))),
    )
    yield "M4", "to flow on C", 2, _distance(descended, bare)
    for n in n_steps:
        n_mean = mean if n == 1 else at.sgd(n)[0]
        bare_rate = modified if n == 1 else at.flow(flat_modified_loss(at.losses, at.lr / n))
        yield "M6", f"n = {n}, modified loss with α", 3, _distance(n_mean, bare_rate)
        if n > 1:
            yield "M6", f"n = {n}, modified loss with ε", 2, _distance(n_mean, modified)


def penalty_identities(
    examples: Sequence[FlatLoss], start: Tensor, batch_sizes: Sequence[int]
) -> dict[str, float]:
    """M5: the largest relative difference between the two sides of Eq 2, and of Eq 22 over ``batch_sizes``.

    Args:
        examples: the N per-example losses.
        start: where the gradients are taken, [P].
        batch_sizes: the B of Eq 22, each enumerated over all N-choose-B minibatches.
    """
    gradients = torch.stack([grad(loss)(start) for loss in examples])
    pairs = gradients[: len(gradients) // 2 * 2].unflatten(0, (-1, 2)).mean(1)
    left, right = split_square_norm(pairs)
    eq22 = (
        _relative(enumerated_square_norm(gradients, b), expected_square_norm(gradients, b))
        for b in batch_sizes
    )
    return {"Eq 2": _relative(left, right), "Eq 22": max(eq22)}


def _relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs() / b.abs()).item()


def _distance(a: Tensor, b: Tensor) -> float:
    return (a - b).norm().item()
