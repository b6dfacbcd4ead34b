"""Small networks on images some of whose labels are wrong: plain SGD, Adaptive-k, and an oracle, at once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sgdlit.algorithms.transforms import AdaptiveK
from sgdlit.data.label_errors import DirectedErrors
from sgdlit.theory.draws import numbered_generator

METHODS = ("SGD", "Adaptive-k", "oracle")
_CLASSES = 10


@dataclass(frozen=True)
class Setting:
    """What all runs have in common.

    Args:
        examples: of each seed.
        hidden: units.
        share: of the labels that are wrong, y → y + 2 mod 10.
        batch_size: B.
        lr: learning rate, a fifth of it from epoch ``drop`` on.
        drop: see ``lr``.
        epochs: of each run.
        plain_epochs: in which Adaptive-k keeps every example.
        seeds: 0, 1, ..., this many, each with examples, wrong labels, initial weights and orders of its own.
    """

    examples: int
    hidden: int
    share: float
    batch_size: int
    lr: float
    drop: int
    epochs: int
    plain_epochs: int
    seeds: int


class Epoch(NamedTuple):
    """After an epoch: test accuracy by run (NaN where it was not evaluated), and how many Adaptive-k kept.

    ``accuracy`` ``[methods, seeds]``; ``kept`` and ``seen`` of clean and of wrong labels, ``[seeds, 2]``.
    """

    accuracy: Tensor
    kept: Tensor
    seen: Tensor


def train(
    o: Setting, images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor, every: int
) -> Iterator[Epoch]:
    """All runs, epoch by epoch. SGD is evaluated after each, the others after every ``every``-th and the
    last.

    Args:
        o: the setting; seed s sees the images from s·examples on.
        images: float32 ``[N, d]``.
        labels: int64 ``[N]``.
        test_images: as many.
        test_labels: of them.
        every: epochs between two evaluations.
    """
    runs, everyone = len(METHODS) * o.seeds, torch.arange(o.seeds).unsqueeze(1)
    x = images[: o.seeds * o.examples].unflatten(0, (o.seeds, o.examples))
    clean = labels[: o.seeds * o.examples].unflatten(0, (o.seeds, o.examples))
    errors, index = DirectedErrors(o.share, _CLASSES, shift=2), torch.arange(o.examples)
    seen_labels = torch.stack([errors.apply(index, own, seed) for seed, own in enumerate(clean)])
    network = _Stack(o, images.shape[1])
    rule = AdaptiveK()
    state = rule.start(torch.zeros(o.seeds, 1))
    rng = [numbered_generator(seed, 38) for seed in range(o.seeds)]
    for epoch in range(o.epochs):
        lr = o.lr if epoch < o.drop else o.lr / 5
        order = torch.from_numpy(np.stack([r.permutation(o.examples) for r in rng]))
        kept_count, seen_count = torch.zeros(2, o.seeds, 2)
        for chosen in order.split(o.batch_size, 1):
            inputs, targets = x[everyone, chosen], seen_labels[everyone, chosen]
            right = (targets == clean[everyone, chosen]).float()
            h, p = network.forward(inputs.repeat(len(METHODS), 1, 1))
            losses = -torch.log(p[o.seeds : 2 * o.seeds].gather(2, targets.unsqueeze(2)).squeeze(2))
            kept = torch.ones_like(right)
            if epoch >= o.plain_epochs:
                kept, state = rule.kept(losses, state)
                kept_count += torch.stack([(kept * right).sum(1), (kept * (1 - right)).sum(1)], 1)
                seen_count += torch.stack([right.sum(1), (1 - right).sum(1)], 1)
            weights = torch.cat([torch.ones_like(right), kept, right])
            weights = weights / weights.sum(1, keepdim=True).clamp_min(1)
            onehot = torch.nn.functional.one_hot(targets, _CLASSES).repeat(len(METHODS), 1, 1)
            network.move(inputs.repeat(len(METHODS), 1, 1), h, (p - onehot) * weights.unsqueeze(2), lr)
        due = (epoch + 1) % every == 0 or epoch + 1 == o.epochs
        accuracy = torch.full((runs,), math.nan)
        asked = range(runs if due else o.seeds)
        accuracy[: len(asked)] = torch.stack([network.accuracy(k, test_images, test_labels) for k in asked])
        yield Epoch(accuracy.reshape(len(METHODS), o.seeds), kept_count, seen_count)


class _Stack:
    """ReLU networks d–h–10, one for each method and seed; those of one seed start alike."""

    def __init__(self, o: Setting, inputs: int) -> None:
        sizes = ((o.hidden, inputs), (_CLASSES, o.hidden))
        rng = [numbered_generator(seed, 39) for seed in range(o.seeds)]
        drawn = [[r.standard_normal(size) * math.sqrt(2 / size[1]) for size in sizes] for r in rng]
        self.weights = [
            torch.from_numpy(np.stack(own)).float().repeat(len(METHODS), 1, 1)
            for own in zip(*drawn, strict=True)
        ]
        self.biases = [torch.zeros(len(METHODS) * o.seeds, 1, size[0]) for size in sizes]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden activations and probabilities, for inputs ``[runs, B, d]``."""
        h = torch.relu(torch.baddbmm(self.biases[0], x, self.weights[0].mT))
        return h, torch.softmax(torch.baddbmm(self.biases[1], h, self.weights[1].mT), 2)

    def move(self, x: Tensor, h: Tensor, delta: Tensor, lr: float) -> None:
        """A step along minus the gradient; ``delta`` ``[runs, B, 10]`` is that by the logits."""
        inner = (delta @ self.weights[1]) * (h > 0)
        for weight, bias, own, entered in (
            (self.weights[0], self.biases[0], inner, x),
            (self.weights[1], self.biases[1], delta, h),
        ):
            weight.baddbmm_(own.mT, entered, alpha=-lr)
            bias.sub_(own.sum(1, keepdim=True), alpha=lr)

    def accuracy(self, run: int, x: Tensor, labels: Tensor) -> Tensor:
        """Of one run on inputs ``[n, d]``."""
        h = torch.relu(x @ self.weights[0][run].T + self.biases[0][run])
        return ((h @ self.weights[1][run].T + self.biases[1][run]).argmax(1) == labels).float().mean()
