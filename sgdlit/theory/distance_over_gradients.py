"""DoG and SGD on one least-squares problem, many rates at once, in float64 (F19).

DoG needs no rate: η_t = r̄_t/√(Σ_{i≤t} ‖g_i‖² + ε) with r̄_t = max(r̄_0, max_{i≤t} ‖w_i − w_0‖) and r̄_0 =
``reps_rel``·(1 + ‖w_0‖). Its average is part of the method: w̄ ← (1 − c_t) w̄ + c_t w, c_t = (1 + γ)/(t + γ),
γ = 8.

Source: Ivgi, Hinder & Carmon 2023, arXiv 2302.12022.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Array = np.ndarray

_EPSILON, _GAMMA = 1e-8, 8.0


@dataclass
class DoGState:
    """What DoG knows of some runs: r̄ and Σ‖g‖², ``[..., 1]``, and w_0, ``[..., d]``."""

    start: Array
    largest: Array
    squares: Array

    @staticmethod
    def begin(start: Array, reps_rel: Array) -> "DoGState":
        """At w_0, ``[..., d]``, with one ``reps_rel`` for each run, ``[...]``."""
        radius = reps_rel[..., None] * (1 + np.linalg.norm(start, axis=-1, keepdims=True))
        return DoGState(start.copy(), radius, np.zeros_like(radius))

    def step(self, w: Array, gradient: Array) -> Array:
        """w after an update."""
        moved = np.linalg.norm(w - self.start, axis=-1, keepdims=True)
        self.largest = np.maximum(self.largest, moved)
        self.squares = self.squares + (gradient**2).sum(-1, keepdims=True)
        return w - self.largest / np.sqrt(self.squares + _EPSILON) * gradient


class Trained(NamedTuple):
    """Last iterate and polynomial average of each run, ``[K, d]``; those of DoG come first."""

    last: Array
    average: Array


def train(
    inputs: Array, targets: Array, visits: Array, reps_rel: Array, lrs: Array, scale: Array | float = 1.0
) -> Trained:
    """Runs of DoG and of SGD from w = 0 on ``scale``·½(x·w − y)², all on the same minibatches.

    Args:
        inputs: x, ``[n, d]``.
        targets: y, ``[n]``.
        visits: the examples of each step's minibatch, ``[steps, B]``.
        reps_rel: of each run of DoG.
        lrs: of each run of SGD.
        scale: of the loss, one number or one for each run, those of DoG first.
    """
    count = len(reps_rel) + len(lrs)
    w = np.zeros((count, inputs.shape[1]))
    average, free = np.zeros_like(w), len(reps_rel)
    state = DoGState.begin(w[:free], reps_rel)
    factor = np.broadcast_to(scale, count)[:, None] / visits.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        for t, chosen in enumerate(visits, start=1):
            x = inputs[chosen]
            gradient = factor * ((w @ x.T - targets[chosen]) @ x)
            w = np.concatenate(
                [state.step(w[:free], gradient[:free]), w[free:] - lrs[:, None] * gradient[free:]]
            )
            average += (1 + _GAMMA) / (t + _GAMMA) * (w - average)
    return Trained(w, average)
