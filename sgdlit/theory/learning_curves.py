"""The exact learning curve of SGD from a stream of Gaussian features (F13).

Features ψ ~ N(0, diag λ), targets y = Σ_k v_k ψ_k + σ·noise, w ← w − (ε/m) Σ ψ(wᵀψ − y) over a fresh
minibatch of m, from w = 0. The mean square errors q_k = E(w_k − v_k)² of the coefficients follow ::

    q ← (1 − ελ)²q + (ε²/m)(λ²q + λ Σ_j λ_j q_j) + (ε²σ²/m) λ,      q₀ = v²

and the mean test loss is ⟨L⟩ = E(f − y*)² = Σ_k λ_k q_k, with clean targets y*.

Source: Bordelon & Pehlevan 2021, arXiv 2106.02713, theorem 1 and its version with noise.
"""

import numpy as np

from sgdlit.foundations.errors import UserError

Array = np.ndarray


def learning_curve(
    eigenvalues: Array,
    power: Array,
    lr: Array | float,
    batch_size: float,
    steps: int,
    label_noise: float = 0.0,
) -> Array:
    """⟨L_t⟩ for t = 0 … ``steps``.

    Args:
        eigenvalues: λ, ``[N]``.
        power: v², ``[N]``.
        lr: ε, one or several ``[...]``.
        batch_size: m.
        steps: how many.
        label_noise: σ.

    Returns:
        float64 ``[steps + 1, ...]``.

    Raises:
        UserError: spectra of different lengths; m below 1.
    """
    if eigenvalues.shape != power.shape or eigenvalues.ndim != 1:
        raise UserError(f"eigenvalues {eigenvalues.shape}, power {power.shape}: allowed are two of shape [N]")
    if batch_size < 1:
        raise UserError(f"batch_size = {batch_size}: must be 1 or more")
    rate = np.asarray(lr, np.float64)[..., None]
    drawn = rate**2 / batch_size
    keep = (1 - rate * eigenvalues) ** 2 + drawn * eigenvalues**2
    noise = drawn * label_noise**2 * eigenvalues
    shared = drawn * eigenvalues
    errors = np.broadcast_to(power, keep.shape).astype(np.float64)
    losses = [errors @ eigenvalues]
    for _ in range(steps):
        errors = keep * errors + shared * losses[-1][..., None] + noise
        losses.append(errors @ eigenvalues)
    return np.array(losses)


def curve_in_closed_form(
    eigenvalues: Array, power: Array, lr: float, batch_size: float, step: int, label_noise: float = 0.0
) -> float:
    """⟨L_t⟩ = λᵀAᵗv² + (ε²σ²/m) λᵀ(I − A)⁻¹(I − Aᵗ)λ, A = (I − εΛ)² + (ε²/m)(Λ² + λλᵀ); costs N³."""
    identity = np.eye(len(eigenvalues))
    a = np.diag((1 - lr * eigenvalues) ** 2)
    a += lr**2 / batch_size * (np.diag(eigenvalues**2) + np.outer(eigenvalues, eigenvalues))
    after = np.linalg.matrix_power(a, step)
    floor = np.linalg.solve(identity - a, (identity - after) @ eigenvalues)
    noise = lr**2 * label_noise**2 / batch_size
    return float(eigenvalues @ after @ power + noise * eigenvalues @ floor)


def simulate_learning(
    eigenvalues: Array,
    power: Array,
    lr: float,
    batch_size: int,
    at: list[int],
    runs: int,
    draw: np.random.Generator,
    label_noise: float = 0.0,
) -> Array:
    """The loss Σ_k λ_k(w_k − v_k)² of simulated runs at some steps, rising; float64 ``[len(at), runs]``."""
    std = np.sqrt(eigenvalues)
    apart = np.broadcast_to(np.sqrt(power), (runs, len(power))).copy()  # v − w; the sign of v does not matter
    losses, step = [], 0
    for until in at:
        for _ in range(until - step):
            features = draw.standard_normal((runs, batch_size, len(std))) * std
            residual = np.einsum("rmk,rk->rm", features, apart)
            if label_noise:
                residual += label_noise * draw.standard_normal((runs, batch_size))
            apart -= lr / batch_size * np.einsum("rm,rmk->rk", residual, features)
        step = until
        losses.append(apart**2 @ eigenvalues)
    return np.array(losses)


def best_loss(
    eigenvalues: Array, power: Array, batch_size: int, steps: int, lrs: Array
) -> tuple[float, float]:
    """The least ⟨L_steps⟩ over constant rates, and that rate: the best of ``lrs``, then refined between its
    neighbours."""
    from scipy.optimize import minimize_scalar

    def final(lr: Array | float) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            found = learning_curve(eigenvalues, power, lr, batch_size, steps)[-1]
        return np.where(np.isfinite(found), found, np.inf)

    best = int(np.argmin(final(lrs)))
    low, high = lrs[max(best - 1, 0)], lrs[min(best + 1, len(lrs) - 1)]
    found = minimize_scalar(
        lambda x: float(np.log(final(np.exp(x)))), bounds=(np.log(low), np.log(high)), method="bounded"
    )
    return float(np.exp(found.fun)), float(np.exp(found.x))
