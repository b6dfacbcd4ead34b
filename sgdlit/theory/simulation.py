"""Monte Carlo of the noisy quadratic model, the measurement beside its closed forms."""

from collections.abc import Callable, Sequence

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.theory.noisy_quadratic import NoisyQuadratic, check_batch
from sgdlit.theory.optimizers import AveragedSGD, HeavyBall, Optimizer


def simulate(
    model: NoisyQuadratic,
    optimizer: Optimizer,
    lrs: Sequence[float],
    batch_size: float,
    runs: int,
    seed: int,
    record: Sequence[int],
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> np.ndarray:
    """The risk ½ Σ h θ² of independent runs, normal start and normal noise.

    Args:
        lrs: the learning rate of each step.
        runs: how many; run r, step t see the same noise whatever the number of runs and steps.
        record: step numbers, 0 is the start.
        progress: called as ``progress("steps", done, total)``.

    Returns:
        float64 [len(record), runs].
    """
    import torch

    from sgdlit.foundations.philox import derive_key, normal

    if runs < 1 or not record or max(record) > len(lrs):
        raise UserError(
            f"runs = {runs}, record up to {max(record, default=None)} of {len(lrs)} steps: out of range"
        )
    h, members = model.curvature, torch.arange(runs)
    keys = [derive_key(seed, f"theory/quadratic-{part}") for part in ("start", "noise")]
    theta = np.sqrt(model.start) * normal(keys[0], members, len(h), dtype=torch.float64).numpy()
    deviation = np.sqrt(model.noise / check_batch(batch_size))
    scale, velocity, average = h**-optimizer.preconditioner, np.zeros_like(theta), theta.copy()
    momentum = optimizer.momentum if isinstance(optimizer, HeavyBall) else 0.0
    decay = optimizer.decay if isinstance(optimizer, AveragedSGD) else 0.0
    wanted, out = {int(k): i for i, k in enumerate(record)}, np.empty((len(record), runs))
    for step in range(max(record) + 1):
        if step > 0:
            noise = normal(keys[1], members, len(h), substream=step, dtype=torch.float64).numpy()
            velocity = momentum * velocity - lrs[step - 1] * scale * (h * theta + deviation * noise)
            theta = theta + velocity
            average = decay * average + (1 - decay) * theta
        progress("steps", step, max(record))
        if step in wanted:
            out[wanted[step]] = 0.5 * average**2 @ h
    return out
