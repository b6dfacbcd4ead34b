"""A noisy quadratic with few directions in the place of many, for an optimiser that looks at its risk often.

Whatever the rates, the risk of plain SGD is Σ_i a(h_i) s_i + b(h_i) c_i with functions a and b of the
curvature alone that are smooth in log h (F5). Where curvatures lie close, these functions are interpolated
from a few Chebyshev nodes: each direction's start and noise are shared out among the nodes by Lagrange's
weights. With the defaults, 10⁴ directions h_i = 1/i become 176, and the risk is the same to a part in 10⁸.
"""

from typing import NamedTuple

import numpy as np

from sgdlit.theory.noisy_quadratic import NoisyQuadratic
from sgdlit.theory.two_roots import Array

_WIDTH, _NODES = 0.2, 5


class Directions(NamedTuple):
    """Curvature, noise and start of some directions, [D] each; the weights of a node may be negative."""

    curvature: Array
    noise: Array
    start: Array


def quadrature_directions(model: NoisyQuadratic, width: float = _WIDTH, nodes: int = _NODES) -> Directions:
    """Directions with the model's risk under plain SGD, steepest first.

    Args:
        model: with directions in any order.
        width: of the groups that share nodes, in log h. Smaller groups than ``nodes`` stay as they are.
        nodes: of a group.
    """
    curvature, place = np.unique(-model.curvature, return_inverse=True)
    curvature = -curvature
    noise, start = (np.bincount(place, weights) for weights in (model.noise, model.start))
    logs, found, first = np.log(curvature), [], 0
    while first < len(logs):
        last = int(np.searchsorted(-logs, width - logs[first], side="right"))
        group = slice(first, last)
        if last - first <= nodes:
            found.append((curvature[group], noise[group], start[group]))
        else:
            places, weights = _lagrange(logs[group], nodes)
            found.append((np.exp(places), weights @ noise[group], weights @ start[group]))
        first = last
    return Directions(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _lagrange(points: Array, nodes: int) -> tuple[Array, Array]:
    """Chebyshev nodes on the range of falling ``points`` [P], and the weights of each point, [nodes, P]."""
    middle, half = (points[0] + points[-1]) / 2, (points[0] - points[-1]) / 2
    places = np.cos((2 * np.arange(nodes) + 1) * np.pi / (2 * nodes))
    away = (points - middle) / half - places[:, None]
    gaps = places[:, None] - places + np.eye(nodes)
    weights = [np.delete(away, j, 0).prod(0) / gaps[j].prod() for j in range(nodes)]
    return middle + half * places, np.stack(weights)
