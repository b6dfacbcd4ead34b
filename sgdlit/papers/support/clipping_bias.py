"""SGD on one weight with clipped gradients: where it stands in the end."""

import numpy as np
import torch

from sgdlit.algorithms.transforms import Examples, GradientTransform
from sgdlit.theory.draws import numbered_generator


def clipped_root(values: np.ndarray, threshold: float) -> float:
    """w with Σ_i clip(w − a_i, C₁) = 0."""
    from scipy.optimize import brentq

    return float(
        brentq(lambda w: np.clip(w - values, -threshold, threshold).sum(), values.min(), values.max())
    )


def stationary_mean(
    transform: GradientTransform, values: np.ndarray, lr: float, runs: int, batch_size: int
) -> np.ndarray:
    """The mean of w over some runs and the second half of 60/η steps on ½(w − a_i)², from the mean of a on.

    Args:
        transform: what becomes of the gradients.
        values: a, one set for each seed: ``[S, n]``.
        lr: η.
        runs: on each set, whose draws with replacement are the same for all sets.
        batch_size: B.

    Returns:
        float64 ``[S]``.
    """
    a = torch.from_numpy(values)
    w = a.mean(1, keepdim=True).repeat(1, runs).unsqueeze(-1)
    state, steps = transform.start(w), round(60 / lr)
    rng = numbered_generator(22, round(1e9 * lr))
    drawn = torch.from_numpy(rng.integers(0, values.shape[1], (steps, runs * batch_size)))
    total = torch.zeros(len(values), dtype=torch.float64)
    for step, chosen in enumerate(drawn):
        seen = a[:, chosen].unflatten(1, (runs, batch_size))
        apart = w - seen
        examples = Examples.of_gradients(apart.square() / 2, seen, w, apart.unsqueeze(-1))
        gradient, state = transform(examples, state, step)
        w = w - lr * gradient
        if step >= steps // 2:
            total += w.mean((1, 2))
    return (total / (steps - steps // 2)).numpy()
