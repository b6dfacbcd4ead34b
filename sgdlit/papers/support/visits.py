"""SGD on least squares at a constant rate in four orders of visits, many runs at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sgdlit.data.grab import balance, reordered
from sgdlit.theory.draws import numbered_generator

ORDERS = ("with replacement", "single shuffle", "random reshuffling", "GraB")


def problem(seed: int, examples: int, weights: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a ``[n, d]``, b ``[n]`` and the minimiser w_* ``[d]``: a and w₀ normal, b = a·w₀ + noise."""
    rng = numbered_generator(seed, 13)
    a = rng.standard_normal((examples, weights))
    b = a @ rng.standard_normal(weights) + rng.standard_normal(examples)
    return a, b, np.linalg.lstsq(a, b, rcond=None)[0]


def distances(problems: list, lr: float, runs: int) -> np.ndarray:
    """Means of ‖w − w_*‖² over runs and the ends of the second half of 0.5/η + 40 epochs.

    Returns:
        float64 ``[4, problems]``, in the order of ``ORDERS``.
    """
    epochs = round(0.5 / lr) + 40
    a, b, best = (torch.from_numpy(np.stack(part)) for part in zip(*problems, strict=True))
    count, examples = a.shape[:2]
    which = torch.arange(count).repeat_interleave(runs).repeat(len(ORDERS))  # the problem of each run
    draw = Visits(count * runs, examples, lr)
    total = torch.zeros(len(which), dtype=torch.float64)
    w = best[which].clone()
    for epoch in range(epochs):
        order = draw.next()
        inputs = a[which.unsqueeze(1), order].transpose(0, 1).contiguous()
        targets = b[which.unsqueeze(1), order].T.contiguous()
        for x, y in zip(inputs, targets, strict=True):
            gradient = x * ((x * w).sum(1) - y).unsqueeze(1)
            draw.see(gradient)
            w = w - lr * gradient
        if epoch >= epochs // 2:
            total += (w - best[which]).square().sum(1)
    return (total / (epochs - epochs // 2)).reshape(len(ORDERS), count, runs).mean(-1).numpy()


class Visits:
    """The orders of all runs, epoch by epoch; those of GraB from the gradients that they saw.

    Args:
        runs: under each order.
        examples: n.
        lr: η, whose runs have draws of their own.
    """

    def __init__(self, runs: int, examples: int, lr: float) -> None:
        self.rng = numbered_generator(1, round(1e9 * lr))
        self.runs, self.examples = runs, examples
        self.single, self.grab = self._permutations(), self._permutations()
        self.mean: Tensor | float = 0.0
        self._seen: list[Tensor] = []

    def _permutations(self) -> Tensor:
        return torch.from_numpy(self.rng.permuted(np.tile(np.arange(self.examples), (self.runs, 1)), axis=1))

    def next(self) -> Tensor:
        """int64 ``[4 · runs, n]``, in the order of ``ORDERS``."""
        if self._seen:
            self._rebalance()
        drawn = torch.from_numpy(self.rng.integers(0, self.examples, (self.runs, self.examples)))
        return torch.cat([drawn, self.single, self._permutations(), self.grab])

    def see(self, gradient: Tensor) -> None:
        """The gradients of a step of all runs, ``[4 · runs, d]``."""
        self._seen.append(gradient[3 * self.runs :])

    def _rebalance(self) -> None:
        seen = torch.stack(self._seen)
        prefix, plus = torch.zeros_like(seen[0]), []
        for centred in seen - self.mean:
            sign, prefix = balance(prefix, centred)
            plus.append(sign)
        self.grab, self.mean, self._seen = reordered(self.grab, torch.stack(plus, 1)), seen.mean(0), []
