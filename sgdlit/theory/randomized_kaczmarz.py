"""Randomized Kaczmarz: SGD's proximal update on clean linear equations (G13).

One step projects on the drawn equation, w ← w + (t − wᵀa)/‖a‖² · a, the limit η → ∞ of the proximal update
argmin_v ½(t − vᵀa)² + ‖v − w‖²/(2η). With rows drawn ∝ ‖a_i‖² (Strohmer & Vershynin 2009, F11)::

    E‖w_k − w_*‖² ≤ (1 − σ_min²(A)/‖A‖_F²)ᵏ ‖w_0 − w_*‖²
"""

import numpy as np
import torch

from sgdlit.foundations.philox import derive_key, uniform

Array = np.ndarray


def contraction(rows: Array) -> float:
    """1 − σ_min²(A)/‖A‖_F², the bound on the mean squared distance's factor per step; rows A [N, D]."""
    return float(1 - np.linalg.svd(rows, compute_uv=False)[-1] ** 2 / (rows**2).sum())


def proximal_step(w: Array, row: Array, target: float, eta: float) -> Array:
    """argmin_v ½(target − vᵀrow)² + ‖v − w‖²/(2 eta), in closed form; eta = inf is Kaczmarz."""
    return w + (target - w @ row) / (row @ row + 1 / eta) * row


def kaczmarz(
    rows: Array, targets: Array, start: Array, solution: Array, steps: int, runs: int, seed: int
) -> Array:
    """‖w_k − w_*‖² of independent runs that draw rows ∝ ‖a_i‖²; float64 [steps + 1, runs].

    Args:
        rows: A, [N, D]; targets: t, [N]; start: w_0, [D].
        solution: w_*, the point whose distance is recorded, [D].
    """
    squares = (rows**2).sum(1)
    edges = np.cumsum(squares / squares.sum())
    drawn = uniform(
        derive_key(seed, "theory/kaczmarz"), torch.arange(runs), steps, dtype=torch.float64
    ).numpy()
    picks = np.minimum(np.searchsorted(edges, drawn, side="right"), len(rows) - 1)
    w, out = np.repeat(start[None], runs, 0), np.empty((steps + 1, runs))
    out[0] = ((w - solution) ** 2).sum(1)
    for k in range(steps):
        a = rows[picks[:, k]]
        residual = targets[picks[:, k]] - (w * a).sum(1)
        w = w + (residual / squares[picks[:, k]])[:, None] * a
        out[k + 1] = ((w - solution) ** 2).sum(1)
    return out
