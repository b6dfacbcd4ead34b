"""Graphs of workers as doubly stochastic matrices: a line holds the weights of a worker's neighbours.

Names and weights are those of Lian et al. 2017 (1705.09056) and, of the exponential graph, of Ying et al.
2021 (2110.13363).
"""

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

GraphName = Literal["ring", "grid", "exponential", "complete"]


def _of_neighbours(workers: int, neighbours: Callable[[int], Iterable[int]]) -> Tensor:
    """Equal weights for a worker's neighbours, itself among them; one that is named twice has two of them."""
    matrix = torch.zeros(workers, workers, dtype=torch.float64)
    for j in range(workers):
        own = list(neighbours(j))
        for k in own:
            matrix[j, k] += 1 / len(own)
    return matrix


def ring(workers: int) -> Tensor:
    """⅓ of the worker's own and of each of its two neighbours' parameters."""
    return _of_neighbours(workers, lambda j: [j, (j - 1) % workers, (j + 1) % workers])


def grid(workers: int) -> Tensor:
    """A torus as nearly square as can be: ⅕ of the worker's own and of each of its four neighbours'."""
    rows = max(r for r in range(1, math.isqrt(workers) + 1) if workers % r == 0)
    columns = workers // rows

    def neighbours(j: int) -> list[int]:
        r, c = divmod(j, columns)
        around = [(r, c), (r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
        return [a % rows * columns + b % columns for a, b in around]

    return _of_neighbours(workers, neighbours)


def exponential(workers: int) -> Tensor:
    """Equal weights for the worker and for those 1, 2, 4, … places after it."""
    hops = [2**i for i in range(max(0, math.ceil(math.log2(workers))))]
    return _of_neighbours(workers, lambda j: [j, *((j + hop) % workers for hop in hops)])


def complete(workers: int) -> Tensor:
    """The mean of all."""
    return torch.full((workers, workers), 1 / workers, dtype=torch.float64)


GRAPHS: dict[str, Callable[[int], Tensor]] = {
    "ring": ring,
    "grid": grid,
    "exponential": exponential,
    "complete": complete,
}
"""From the number of workers to the matrix ``[workers, workers]``, float64."""
