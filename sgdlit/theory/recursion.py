"""The exact risk of SGD with momentum on a noisy quadratic at any sequence of learning rates, step by step.

In the convention of ``torch.optim.SGD``, u ← βu + g, θ ← θ − αu with g = hθ + ε, Var ε = c/B: at a constant
rate it is heavy ball (F8), with β = 0 it is F5. The second moments S = E (θ, u)(θ, u)ᵀ of a direction follow
the matrix M and the vector n of :func:`sgdlit.algorithms.rules.sgd.linear_map`::

    S' = M S Mᵀ + (c/B) n nᵀ

The closed forms of :mod:`sgdlit.theory.optimizers` need no recursion, but one rate.
"""

from collections.abc import Sequence

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.theory.noisy_quadratic import NoisyQuadratic, check_batch
from sgdlit.theory.two_roots import Array


def risk_of_lrs(
    model: NoisyQuadratic, lrs: Sequence[float], batch_size: float, momentum: float = 0.0
) -> Array:
    """E L after 0, 1, … steps, float64 [len(lrs) + 1].

    Args:
        model: the noisy quadratic.
        lrs: the learning rate α of each step.
        batch_size: B.
        momentum: β.

    Raises:
        UserError: a rate that is negative or not finite; risks that grow beyond every number, with the step.
    """
    from sgdlit.algorithms.rules.sgd import linear_map  # imports torch

    wrong = [lr for lr in lrs if not 0 <= lr < float("inf")]
    if wrong:
        raise UserError(f"lr = {wrong[0]}: must be a number from 0 upwards")
    h, noise = model.curvature, model.noise / check_batch(batch_size)
    second = np.zeros((len(h), 2, 2))
    second[:, 0, 0] = model.start
    risks = [0.5 * h @ second[:, 0, 0]]
    with np.errstate(over="ignore", invalid="ignore"):  # reported below
        for lr in lrs:
            step, hit = linear_map(h, lr, momentum)
            second = step @ second @ step.transpose(0, 2, 1) + noise[:, None, None] * np.outer(hit, hit)
            risks.append(0.5 * h @ second[:, 0, 0])
    out = np.array(risks)
    if not np.isfinite(out).all():
        first = int(np.isfinite(out).argmin())
        raise UserError(f"lr = {lrs[first - 1]}: the risk exceeds every number at step {first}")
    return out
