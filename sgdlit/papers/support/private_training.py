"""Least squares by noisy SGD on Poisson minibatches with clipped gradients, many seeds at once."""

import math

import numpy as np
import torch

from sgdlit.algorithms.transforms import Examples, PerExampleClip
from sgdlit.theory.draws import numbered_generator

_LABEL_NOISE = 0.1


def late_loss(
    examples: int, weights: int, batch_size: int, noise: float, lr: float, steps: int, seeds: int
) -> np.ndarray:
    """The mean training loss ½(x·w − y)² over the second half of the steps from w = 0 on: float64
    ``[seeds]``.

    x ~ N(0, I/d), so that ‖x‖ is about 1, and y = x·w₀ + 0.1·noise with w₀ ~ N(0, I), so that x·w₀ has
    variance 1.

    Args:
        examples: n.
        weights: d.
        batch_size: B; each example is in a minibatch with probability B/n, and sums are divided by B.
        noise: σ; gradients are clipped at 1.
        lr: learning rate.
        steps: in all.
        seeds: 0, 1, ..., this many, whose data do not depend on B and σ.
    """
    rng = [numbered_generator(seed, 35) for seed in range(seeds)]
    x = torch.from_numpy(np.stack([r.standard_normal((examples, weights)) for r in rng])) / math.sqrt(weights)
    teacher = torch.from_numpy(np.stack([r.standard_normal(weights) for r in rng]))
    extra = torch.from_numpy(np.stack([r.standard_normal(examples) for r in rng]))
    y = (x @ teacher.unsqueeze(2)).squeeze(2) + _LABEL_NOISE * extra
    transform = PerExampleClip(1.0, noise=noise, batch_size=batch_size, seed=35)
    sampled = [numbered_generator(seed, 36, batch_size) for seed in range(seeds)]
    w, total = torch.zeros(seeds, weights, dtype=torch.float64), torch.zeros(seeds, dtype=torch.float64)
    for step in range(steps):
        error = (x @ w.unsqueeze(2)).squeeze(2) - y
        if step >= steps // 2:
            total += error.square().mean(1) / 2
        drawn = torch.from_numpy(np.stack([r.random(examples) < batch_size / examples for r in sampled]))
        gradients = (error * drawn).unsqueeze(
            2
        ) * x  # what is not drawn has a gradient of 0, which no clip moves
        seen = Examples.of_gradients(error.square() / 2, y, w, gradients)
        gradient, _ = transform(seen, {}, step)
        w = w - lr * gradient
    return (total / (steps - steps // 2)).numpy()
