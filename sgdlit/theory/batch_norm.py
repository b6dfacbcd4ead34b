"""Linear regression and classification on batch-normalised inputs: what each order of visits minimises.

Source: Wu, Yun & Sra 2023, arXiv:2302.12444; F22.
"""

import numpy as np
from numpy import ndarray as Array

_EPS = 1e-5


def normalised(inputs: Array, eps: float = _EPS) -> Array:
    """Each column minus its mean, over √(variance + eps), within each batch: ``[..., B, d]``."""
    apart = inputs - inputs.mean(-2, keepdims=True)
    return apart / np.sqrt(np.square(apart).mean(-2, keepdims=True) + eps)


def in_batches(inputs: Array, orders: Array, batch_size: int) -> Array:
    """X̄_π: the inputs in some orders, normalised batch by batch.

    Args:
        inputs: ``[N, d]``.
        orders: permutations, int64 ``[..., N]``.
        batch_size: B, which divides N.

    Returns:
        ``[..., N, d]``.
    """
    seen = inputs[orders]
    batches = normalised(seen.reshape(*seen.shape[:-2], -1, batch_size, seen.shape[-1]))
    return batches.reshape(seen.shape)


def single_shuffle_optimum(inputs: Array, targets: Array, order: Array, batch_size: int) -> Array:
    """M_SS(π) = argmin ‖y_π − X̄_π M‖, ``[d]``."""
    return np.linalg.lstsq(in_batches(inputs, order, batch_size), targets[order], rcond=None)[0]


def reshuffling_optimum(inputs: Array, targets: Array, orders: Array, batch_size: int) -> Array:
    """M_RR = (Σ_π X̄_πᵀX̄_π)⁻¹ Σ_π X̄_πᵀy_π over some orders ``[R, N]``: ``[d]``."""
    seen = in_batches(inputs, orders, batch_size)
    return np.linalg.solve(
        np.einsum("rni,rnj->ij", seen, seen), np.einsum("rni,rn->i", seen, targets[orders])
    )


def full_batch_optimum(inputs: Array, targets: Array) -> Array:
    """M_GD = argmin ‖y − X̄M‖ with the statistics of all examples, ``[d]``."""
    return np.linalg.lstsq(normalised(inputs), targets, rcond=None)[0]


def is_separable(inputs: Array, labels: Array) -> bool:
    """Whether some M has y_i·(x_i·M) > 0 for all i, by a linear program.

    Args:
        inputs: ``[N, d]``.
        labels: ±1, ``[N]``.
    """
    from scipy.optimize import linprog

    signed = labels[:, None] * inputs
    # Largest t with y_i·(x_i·M) ≥ t, |M_j| ≤ 1: it is above 0 exactly where the examples can be separated.
    count, d = inputs.shape
    constraints = np.hstack([-signed, np.ones((count, 1))])
    objective = np.r_[np.zeros(d), -1.0]
    bounds = [(-1.0, 1.0)] * d + [(None, 1.0)]
    found = linprog(objective, A_ub=constraints, b_ub=np.zeros(count), bounds=bounds, method="highs")
    return bool(found.x[-1] > 1e-9)
