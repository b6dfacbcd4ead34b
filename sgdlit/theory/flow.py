"""Gradient flow ω̇ = −∇L(ω), solved far more accurately than anything it is compared with.

Dormand–Prince of order 8 with adaptive steps (scipy's DOP853), relative tolerance 1e-12 by default.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from sgdlit.foundations.errors import UserError
from sgdlit.theory.losses import FlatLoss


def gradient_flow(
    loss: FlatLoss, start: Tensor, time: float, rtol: float = 1e-12, atol: float = 1e-14
) -> Tensor:
    """ω(time) with ω(0) = start.

    Args:
        loss: scalar function of a flat vector.
        start: float64, shape [P].
        time: >= 0; m updates of rate ε correspond to time mε.
        rtol, atol: tolerances of the solver per step.

    Raises:
        UserError: negative time, or a flow that the solver cannot follow (it says why).
    """
    if time < 0:
        raise UserError(f"time = {time}: gradient flow runs forward, time must be >= 0")
    slope = grad(loss)
    end = follow(
        lambda w: -slope(torch.from_numpy(w)).numpy(), start.numpy(), np.array([float(time)]), rtol, atol
    )
    return torch.from_numpy(end[-1])


def follow(
    velocity: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    times: np.ndarray,
    rtol: float = 1e-12,
    atol: float = 1e-14,
) -> np.ndarray:
    """The solution of ω̇ = velocity(ω) from ω(0) = start at increasing ``times`` >= 0; float64 [T, P].

    Raises:
        UserError: the solver could not reach the last time.
    """
    from scipy.integrate import solve_ivp

    span = (0.0, float(times[-1]))
    if span[1] == 0:
        return np.repeat(start[None].astype(np.float64), len(times), 0)
    with np.errstate(over="ignore", invalid="ignore"):  # an exploding flow is reported below
        solution = solve_ivp(
            lambda _, w: velocity(w),
            span,
            start.astype(np.float64),
            "DOP853",
            t_eval=times,
            rtol=rtol,
            atol=atol,
        )
    if not solution.success or not np.isfinite(solution.y).all():
        raise UserError(f"the gradient flow could not be followed to time {span[1]}: {solution.message}")
    return np.ascontiguousarray(solution.y.T)
