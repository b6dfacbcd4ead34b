"""A ReLU network with one hidden layer on two Gaussian classes of unequal sizes, one for each seed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from sgdlit.algorithms.transforms import Examples, GradientTransform, PerClassNormalisation
from sgdlit.data.stratified import stratified
from sgdlit.foundations.philox import derive_key
from sgdlit.theory.draws import numbered_generator


class Setting(NamedTuple):
    """What all methods have in common: d, hidden units, learning rate, B of the stochastic ones, seeds."""

    inputs: int
    hidden: int
    lr: float
    batch_size: int
    seeds: int


class Networks(NamedTuple):
    """f(x) = a·relu(Wx) + b, one for each seed: W ``[S, h, d]``, a ``[S, h]``, b ``[S]``."""

    w: Tensor
    a: Tensor
    b: Tensor

    @classmethod
    def drawn(cls, rng: list[np.random.Generator], hidden: int, inputs: int) -> Networks:
        """W ~ N(0, 1/d), a ~ N(0, 1/h), b = 0."""
        w = np.stack([r.standard_normal((hidden, inputs)) for r in rng]) / math.sqrt(inputs)
        a = np.stack([r.standard_normal(hidden) for r in rng]) / math.sqrt(hidden)
        return cls(torch.from_numpy(w), torch.from_numpy(a), torch.zeros(len(rng), dtype=torch.float64))

    def moved(self, gradient: Tensor, lr: float) -> Networks:
        """After a step along −gradient ``[S, P]``, in the order W, a, b."""
        w, a, b = gradient.split([self.w[0].numel(), self.a.shape[1], 1], 1)
        return Networks(self.w - lr * w.reshape(self.w.shape), self.a - lr * a, self.b - lr * b.squeeze(1))

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """log(1 + exp(−y f(x))) of ``[S, n, d]`` and ±1 ``[S, n]``: ``[S, n]``."""
        return -logsigmoid(
            y * (torch.relu(x @ self.w.mT) @ self.a.unsqueeze(2)).squeeze(2) + y * self.b.unsqueeze(1)
        )

    def examples(self, x: Tensor, y: Tensor) -> Examples:
        """What a transform may look at, with gradients in closed form."""
        z = x @ self.w.mT
        h = torch.relu(z)
        f = (h @ self.a.unsqueeze(2)).squeeze(2) + self.b.unsqueeze(1)
        slope = -y * torch.sigmoid(-y * f)

        def weighted(weights: Tensor) -> Tensor:
            delta = (weights * slope).unsqueeze(2)
            w = (delta * (z > 0) * self.a.unsqueeze(1)).mT @ x
            return torch.cat([w.flatten(1), (delta * h).sum(1), delta.sum(1)], 1)

        def each() -> Tensor:
            delta = slope.unsqueeze(2)
            w = (delta * (z > 0) * self.a.unsqueeze(1)).unsqueeze(3) * x.unsqueeze(2)
            return torch.cat([w.flatten(2), delta * h, delta], 2)

        flat = torch.cat([self.w.flatten(1), self.a, self.b.unsqueeze(1)], 1)
        every = torch.ones(flat.shape[1], dtype=torch.bool)
        return Examples(-logsigmoid(y * f), y, flat, weighted, each, every)


class _Mean(GradientTransform):
    """Plain (stochastic) gradient descent."""

    def __call__(self, examples: Examples, state: dict, step: int) -> tuple[Tensor, dict]:
        return examples.mean_gradient(), state


def run(o: Setting, method: str, counts: tuple[int, int], steps: int) -> np.ndarray:
    """Mean loss of each class before each step and after the last, float64 ``[2, steps + 1, S]``."""
    rng = [numbered_generator(seed, 40) for seed in range(o.seeds)]
    networks = Networks.drawn(rng, o.hidden, o.inputs)
    x, y = (
        torch.from_numpy(np.stack(part))
        for part in zip(*(classes(r, o.inputs, counts) for r in rng), strict=True)
    )
    transform: GradientTransform = PerClassNormalisation(2) if method.startswith("PCN") else _Mean()
    found, everyone = [], torch.arange(o.seeds).unsqueeze(1)
    keys = [derive_key(seed, f"L40 {method}") for seed in range(o.seeds)]
    epoch = torch.arange(steps)
    visits = [stratified(y[s], epoch, key) for s, key in enumerate(keys)] if method == "oversampling" else []
    draws = [numbered_generator(seed, 41) for seed in range(o.seeds)]
    for step in range(steps + 1):
        losses = networks.losses(x, y)
        found.append(torch.stack([losses[:, : counts[0]].mean(1), losses[:, counts[0] :].mean(1)]))
        if step == steps:
            break
        seen_x, seen_y = x, y
        if method in ("SGD", "PCNSGD"):
            chosen = torch.from_numpy(np.stack([r.integers(0, y.shape[1], o.batch_size) for r in draws]))
            seen_x, seen_y = x[everyone, chosen], y[everyone, chosen]
        elif method == "oversampling":
            chosen = torch.stack([own[step, : o.batch_size] for own in visits])
            seen_x, seen_y = x[everyone, chosen], y[everyone, chosen]
        gradient, _ = transform(networks.examples(seen_x, seen_y), {}, step)
        networks = networks.moved(gradient, o.lr)
    return torch.stack(found, 1).numpy()


def classes(rng: np.random.Generator, inputs: int, counts: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``[n, d]`` and labels ``[n]``: the minority, +1, first."""
    direction = rng.standard_normal(inputs)
    y = np.repeat([1.0, -1.0], counts)
    return 1.5 * y[:, None] * direction / np.linalg.norm(direction) + rng.standard_normal((len(y), inputs)), y
