"""Online SGD on a softmax classifier of a Gaussian mixture, and how its rows turn."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sgdlit.data.teachers import GaussianMixture
from sgdlit.foundations.philox import derive_key, normal
from sgdlit.measures.row_alignment import row_alignment, softmax_blocks


def aligned(
    d: int,
    classes: int,
    precision: float,
    lr: float,
    decay: float,
    tested: int,
    times: Sequence[float],
    seed: int,
) -> list[dict[str, float]]:
    """Alignment with both blocks, mean over the classes, and accuracy, after some steps.

    Args:
        d: number of inputs.
        classes: k, with orthonormal means.
        precision: λ; the covariance of each class is I/λ.
        lr: learning rate.
        decay: the weights shrink by decay/d a step.
        tested: fresh examples for blocks and accuracy, over d.
        times: steps over d, ascending.
        seed: of everything.
    """
    steps = round(times[-1] * d)
    data = GaussianMixture(
        d, classes, 1.0, orthonormal=True, variance=1 / precision, steps=steps, seed=seed, dtype="float64"
    )
    inputs, labels = data.draw("train", torch.arange(steps))
    test_inputs, test_labels = data.draw("test", torch.arange(tested * d))
    key = derive_key(seed, "L23 weights")
    w = normal(key, torch.arange(classes), d, dtype=torch.float64) / math.sqrt(d)
    due, rows = {round(time * d): time for time in times}, []
    for step in range(steps + 1):
        if step in due:
            rows.append({"time": due[step], **_seen(w, test_inputs, test_labels)})
        if step < steps:
            error = torch.softmax(w @ inputs[step], 0)
            error[labels[step]] -= 1
            w = (1 - decay / d) * w - lr * error.unsqueeze(1) * inputs[step]
    return rows


def _seen(w: Tensor, inputs: Tensor, labels: Tensor) -> dict[str, float]:
    blocks = softmax_blocks(w, inputs, labels)
    found = {kind: float(row_alignment(w, block, len(w)).mean()) for kind, block in blocks._asdict().items()}
    return found | {"accuracy": float(((inputs @ w.T).argmax(1) == labels).double().mean())}
