"""The piecewise-linear path that joins two wide mean-field networks (F23).

A network is f(x) = (1/N) Σ a_i φ(w_i·x + b_i). With the first halves h = N/2 of the networks A and C, the
path is ::

    A → (A; 2a_A[:h], 0) → (A[:h], C[:h]; the same) → (the same; 0, 2a_C[:h]) → (C[:h], C[:h]; the same)
      → (the same; 2a_C[:h], 0) → (C; the same) → C

Along it either only the a move, in which a convex loss is convex, or only neurons whose a is 0, which do not
count; so its highest point is one of A, C and their halves, each rescaled by 2.

Source: Shevchenko & Mondelli 2019, arXiv 1912.10095, appendix.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sgdlit.foundations.errors import UserError


class Neurons(NamedTuple):
    """w ``[..., N, d]``, b ``[..., N]`` and a ``[..., N]`` of one network, or of several."""

    w: Tensor
    b: Tensor
    a: Tensor

    def first(self, count: int) -> "Neurons":
        """The first ``count`` neurons, as a network of their own: (1/count) Σ …, rescaled by N/count."""
        return Neurons(self.w[..., :count, :], self.b[..., :count], self.a[..., :count])

    def output(self, x: Tensor) -> Tensor:
        """f(x) with φ = relu, ``[..., n]``, of inputs ``[..., n, d]``."""
        units = (x @ self.w.mT).add_(self.b.unsqueeze(-2)).relu_()
        return (units @ self.a.unsqueeze(-1)).squeeze(-1) / self.a.shape[-1]


def between(first: Neurons, second: Neurons, part: float) -> Neurons:
    """The network at a part, 0 to 1, of the straight line from one to the other."""
    return Neurons(*(torch.lerp(p, q, part) for p, q in zip(first, second, strict=True)))


def corners(start: Neurons, end: Neurons) -> list[Neurons]:
    """The eight corners of the path.

    Raises:
        UserError: networks of different sizes, or of an odd number of neurons.
    """
    count = start.a.shape[-1]
    if start.w.shape != end.w.shape or count % 2:
        raise UserError(
            f"networks {tuple(start.w.shape)}, {tuple(end.w.shape)}: allowed are two alike, N even"
        )
    half, zero = count // 2, torch.zeros_like(start.a[..., : count // 2])

    def joined(one: Neurons, other: Neurons) -> tuple[Tensor, Tensor]:
        """w and b of the first halves of two networks."""
        return (
            torch.cat((one.w[..., :half, :], other.w[..., :half, :]), -2),
            torch.cat((one.b[..., :half], other.b[..., :half]), -1),
        )

    of_start = torch.cat((2 * start.a[..., :half], zero), -1)
    of_end_last, of_end_first = (
        torch.cat(parts, -1) for parts in ((zero, 2 * end.a[..., :half]), (2 * end.a[..., :half], zero))
    )
    mixed, twice = joined(start, end), joined(end, end)
    return [
        start,
        Neurons(start.w, start.b, of_start),
        Neurons(*mixed, of_start),
        Neurons(*mixed, of_end_last),
        Neurons(*twice, of_end_last),
        Neurons(*twice, of_end_first),
        Neurons(end.w, end.b, of_end_first),
        end,
    ]


def along(points: list[Neurons], per_segment: int) -> Iterator[Neurons]:
    """Evenly spaced networks on a path through some corners; each corner once."""
    yield points[0]
    for first, second in pairwise(points):
        for k in range(1, per_segment + 1):
            yield between(first, second, k / per_segment)
