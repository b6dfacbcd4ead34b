"""Small networks on a distribution, its Gaussian clone and its isotropic clone, trained side by side."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from sgdlit.data.clone import GaussianClone
from sgdlit.data.hidden_moments import HiddenMoments
from sgdlit.data.streams import StreamData
from sgdlit.foundations.philox import derive_key, uniform

SETS = ("true", "covariance", "isotropic")


def accuracies(
    seeds: int,
    widths: Sequence[int],
    lr: float,
    momentum: float,
    batch_size: int,
    at: Sequence[int],
    tested: int,
    samples: int,
) -> Tensor:
    """Accuracy on examples of the true distribution after some steps of SGD with momentum: ``[times, 3,
    seeds]``.

    Args:
        seeds: 0, 1, ..., this many, each with a distribution and initial weights of its own, which start the
            networks on all three sets.
        widths: of the ReLU network, with PyTorch's default initialisation.
        lr: learning rate.
        momentum: β.
        batch_size: of fresh examples at every step.
        at: steps, ascending.
        tested: true examples on which they are tested.
        samples: true examples from which the clones take their moments.
    """
    data: list[list[StreamData]] = []
    for seed in range(seeds):
        common = {"steps": at[-1], "batch_size": batch_size, "seed": seed, "test_size": tested}
        true = HiddenMoments(widths[0], **common)
        kinds = SETS[1:]
        clones = [GaussianClone(true, kind, samples, **common) for kind in kinds]  # type: ignore[arg-type]
        data.append([true, *clones])
    streams = [own[k] for k in range(len(SETS)) for own in data]
    parameters = [p.requires_grad_() for p in _initial(seeds, widths)]
    velocity = [torch.zeros_like(p) for p in parameters]
    tests = [own[0].draw("test", torch.arange(tested)) for own in data]
    found, page, per_page = [], list[tuple[Tensor, Tensor]](), 100
    for step in range(at[-1]):
        if step % per_page == 0:
            index = torch.arange(step * batch_size, (step + per_page) * batch_size)
            page = [stream.draw("train", index) for stream in streams]
            inputs = torch.stack([x for x, _ in page]).unflatten(1, (per_page, batch_size))
            labels = torch.stack([y for _, y in page]).unflatten(1, (per_page, batch_size))
        k = step % per_page
        outputs = _outputs(parameters, inputs[:, k])
        loss = torch.nn.functional.cross_entropy(outputs.flatten(0, 1), labels[:, k].flatten())
        gradients = torch.autograd.grad(loss * len(streams), parameters)
        with torch.no_grad():
            for p, v, g in zip(parameters, velocity, gradients, strict=True):
                v.mul_(momentum).add_(g)
                p.sub_(v, alpha=lr)
        if step + 1 in at:
            found.append(_tested(parameters, tests))
    return torch.stack(found)


def _initial(seeds: int, widths: Sequence[int]) -> list[Tensor]:
    """Weights ``[3·seeds, n, m]`` and biases ``[3·seeds, 1, n]`` in turn, uniform within 1/√m."""
    parts = []
    for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
        each = []
        for seed in range(seeds):
            key = derive_key(seed, f"L27 layer {layer}")
            drawn = uniform(key, torch.arange(fan_out), fan_in + 1)
            each.append((2 * drawn - 1) / math.sqrt(fan_in))
        stack = torch.stack(each * len(SETS))
        parts += [stack[..., :fan_in].contiguous(), stack[..., fan_in].unsqueeze(1).contiguous()]
    return parts


def _outputs(parameters: list[Tensor], x: Tensor) -> Tensor:
    """Of all networks for inputs ``[runs, n, d]``."""
    for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        x = torch.relu(torch.baddbmm(bias, x, weight.mT))
    return torch.baddbmm(parameters[-1], x, parameters[-2].mT)


def _tested(parameters: list[Tensor], tests: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Accuracy ``[3, seeds]`` on each seed's true examples."""
    found = torch.empty(len(SETS), len(tests))
    with torch.no_grad():
        for k in range(len(SETS)):
            for seed, (x, y) in enumerate(tests):
                own = [p[k * len(tests) + seed].unsqueeze(0) for p in parameters]
                found[k, seed] = (_outputs(own, x.unsqueeze(0))[0].argmax(1) == y).double().mean()
    return found
