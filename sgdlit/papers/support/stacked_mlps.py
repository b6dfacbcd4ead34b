"""ReLU networks of many runs at once, with their gradients written out: the loop of small studies.

A run is a line of the first dimension of every tensor. The command ``fit`` trains the same networks (``MLP``
with cross entropy); a study of some thousand short steps for tens of runs is faster without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from sgdlit.theory.draws import numbered_generator

if TYPE_CHECKING:
    from torch import Tensor


def he_normal(widths: Sequence[int], seeds: int, settings: int = 1) -> list[Tensor]:
    """Weights ``[settings · seeds, out, in]`` of N(0, 2/in) and biases 0, in turn; float32.

    The runs of one seed start alike; a setting's runs stand together, in the order of their seeds.
    """
    parameters = []
    drawn = [numbered_generator(seed, 1) for seed in range(seeds)]
    for fan_in, fan_out in pairwise(widths):
        weights = np.stack([d.standard_normal((fan_out, fan_in)) for d in drawn]) * math.sqrt(2 / fan_in)
        parameters.append(torch.from_numpy(weights).float().repeat(settings, 1, 1))
        parameters.append(torch.zeros(settings * seeds, fan_out))
    return parameters


def outputs(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Logits ``[runs, B, classes]`` for inputs ``[runs, B, d]``."""
    return _activations(parameters, inputs)[-1]


def _activations(parameters: Sequence[Tensor], inputs: Tensor) -> list[Tensor]:
    """What enters each layer, and the logits."""
    found = [inputs]
    for k in range(0, len(parameters), 2):
        z = torch.baddbmm(parameters[k + 1].unsqueeze(1), found[-1], parameters[k].transpose(1, 2))
        found.append(z.relu_() if k + 2 < len(parameters) else z)
    return found


def gradient(parameters: Sequence[Tensor], inputs: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Mean cross entropy ``[runs]`` of a batch, and its gradient.

    Args:
        parameters: weights and biases in turn.
        inputs: ``[runs, B, d]``.
        labels: classes, ``[runs, B]``.
    """
    seen = _activations(parameters, inputs)
    logs = seen[-1].log_softmax(-1)
    loss = -logs.gather(-1, labels.unsqueeze(-1)).squeeze(-1).mean(1)
    delta = logs.exp_().scatter_add_(-1, labels.unsqueeze(-1), -torch.ones_like(logs[..., :1]))
    delta /= labels.shape[1]
    found: list[Tensor] = []
    for k in range(len(parameters) - 2, -1, -2):
        entered = seen[k // 2]
        found = [torch.bmm(delta.transpose(1, 2), entered), delta.sum(1), *found]
        if k:
            delta = torch.bmm(delta, parameters[k]) * (entered > 0)
    return loss, found


def errors(parameters: Sequence[Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
    """Part of wrongly classified examples of ``[n, d]`` that all runs share: float64 ``[runs]``."""
    return (probabilities(parameters, inputs).argmax(-1) != labels).double().mean(-1)


def probabilities(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Softmax ``[runs, n, classes]`` for inputs ``[n, d]`` that all runs share."""
    parts = []
    for k in range(len(parameters[0])):
        own = [p[k : k + 1] for p in parameters]
        parts.append(outputs(own, inputs.unsqueeze(0)).softmax(-1))
    return torch.cat(parts)


def with_replacement(
    seeds: int, settings: int, examples: int, batch_size: int, steps: int
) -> Iterator[Tensor]:
    """Numbers of the examples of each step, ``[settings · seeds, B]``: those of a seed are the same in all
    settings."""
    drawn = [numbered_generator(seed, 2, batch_size) for seed in range(seeds)]
    for _ in range(steps):
        own = np.stack([d.integers(0, examples, batch_size) for d in drawn])
        yield torch.from_numpy(own).repeat(settings, 1)
