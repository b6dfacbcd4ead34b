"""Online convex optimisation: one pass of SGD on convex Lipschitz losses (claim B10, formula F1).

With losses drawn independently, E‖∇f‖² ≤ 𝓑² and the rate η = ‖x¹ − x*‖/(𝓑√K), the best of K iterates
satisfies::

    E min_{k ≤ K} f̃(x^k) − f̃(x*) ≤ ‖x¹ − x*‖ 𝓑 / √K

Here f_a(x) = |aᵀ(x − x*)| with a uniform on the unit sphere, so that 𝓑 = 1 and f̃ is a known multiple of the
distance: f̃(x) = ‖x − x*‖ E|a₁|.
"""

from math import exp, lgamma, pi, sqrt

import numpy as np
import torch

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key, normal


def regret_bound(distance: float, gradient_bound: float, steps: int) -> float:
    """‖x¹ − x*‖ 𝓑 / √K."""
    return distance * gradient_bound / sqrt(_checked(steps))


def best_lr(distance: float, gradient_bound: float, steps: int) -> float:
    """η = ‖x¹ − x*‖ / (𝓑√K), the rate that minimises ‖x¹ − x*‖²/(2Kη) + η𝓑²/2."""
    return distance / (gradient_bound * sqrt(_checked(steps)))


def mean_absolute_coordinate(dimensions: int) -> float:
    """E|a₁| for a uniform on the unit sphere: Γ(d/2)/(√π Γ((d + 1)/2))."""
    if dimensions < 1:
        raise UserError(f"dimensions = {dimensions}: must be at least 1")
    return exp(lgamma(dimensions / 2) - lgamma((dimensions + 1) / 2)) / sqrt(pi)


def simulate_stream(dimensions: int, distance: float, steps: int, runs: int, seed: int) -> np.ndarray:
    """min_{k ≤ K} f̃(x^k) of independent runs with the rate of F1 for K = ``steps``; float64 [runs].

    x^1 … x^K are looked at, which takes K − 1 updates.
    """
    lr, members = best_lr(distance, 1.0, steps), torch.arange(runs)
    key = derive_key(seed, f"theory/stream-{steps}")
    offset = normal(derive_key(seed, "theory/stream-start"), members, dimensions, dtype=torch.float64).numpy()
    offset *= distance / np.linalg.norm(offset, axis=1, keepdims=True)
    nearest = np.full(runs, float(distance))
    for step in range(steps - 1):
        a = normal(key, members, dimensions, substream=step, dtype=torch.float64).numpy()
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        offset -= lr * np.sign((a * offset).sum(1))[:, None] * a
        nearest = np.minimum(nearest, np.linalg.norm(offset, axis=1))
    return nearest * mean_absolute_coordinate(dimensions)


def _checked(steps: int) -> int:
    if steps < 1:
        raise UserError(f"steps = {steps}: must be at least 1")
    return steps
