"""What Adam does to the columns of a gradient, in full and as seen through a random projection (APOLLO)."""

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


class AdamMoments:
    """Adam's running moments of a matrix G ``[..., m, n]``, and what it makes of the latest one.

    Args:
        first: β₁.
        second: β₂.
        eps: ε.
    """

    def __init__(self, first: float = 0.9, second: float = 0.999, eps: float = 1e-8) -> None:
        self.first, self.second, self.eps = first, second, eps
        self.step = 0
        self.mean, self.square = np.zeros(()), np.zeros(())

    def adapted(self, gradient: Array) -> Array:
        """M̂/(√V̂ + ε), of the shape of G, after taking G in."""
        self.step += 1
        self.mean = self.first * self.mean + (1 - self.first) * gradient
        self.square = self.second * self.square + (1 - self.second) * gradient**2
        root = np.sqrt(self.square / (1 - self.second**self.step))
        return self.mean / (1 - self.first**self.step) / (root + self.eps)


def column_factors(adapted: Array, gradient: Array) -> Array:
    """‖adapted column‖/‖gradient column‖, ``[..., n]`` from ``[..., m, n]``; 0 where the gradient is."""
    lengths = np.linalg.norm(gradient, axis=-2)
    return np.where(lengths > 0, np.linalg.norm(adapted, axis=-2) / np.where(lengths > 0, lengths, 1), 0)


def tensor_factor(adapted: Array, gradient: Array) -> Array:
    """The same of the whole matrix, ``[..., 1]``: APOLLO-Mini's one factor for each tensor."""
    length = np.linalg.norm(gradient, axis=(-2, -1))
    factor = np.where(length > 0, np.linalg.norm(adapted, axis=(-2, -1)) / np.where(length > 0, length, 1), 0)
    return factor[..., None]


def projected_factors(gradients: Sequence[Array], projection: Array) -> Array:
    """The column factors of Adam after some gradients, seen through P: ``[..., n]``.

    Adam runs on PG, with r rows in place of m: its state is 2rn numbers. Source: Zhu et al. 2024,
    2412.05270, algorithm 1.

    Args:
        gradients: G of each step, ``[..., m, n]``.
        projection: P, ``[..., r, m]``, with entries of variance 1/r.
    """
    moments = AdamMoments()
    seen = adapted = np.zeros(())
    for gradient in gradients:
        seen = projection @ gradient
        adapted = moments.adapted(seen)
    return column_factors(adapted, seen)
