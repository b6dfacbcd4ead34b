"""Heavy tails of SGD: the index of its stationary law, its estimate, and α-stable noise (L31).

Multiplicative noise gives w ← Mw + q a stationary law with P(‖w‖ > s) ∝ s^(−α), where E‖Me‖^α = 1 for a fixed
unit vector e if the law of M is invariant under rotations. It exists only if E log‖Me‖ < 0.

Sources: Kesten 1973; Gürbüzbalaban, Şimşekli & Zhu 2021, arXiv 2006.04740; Raj et al. 2023, arXiv 2301.11885.
"""

import math

import numpy as np

from sgdlit.foundations.arguments import require_above_zero, require_shares
from sgdlit.foundations.errors import UserError

Array = np.ndarray

_LARGEST = 100.0
_NODES = 120


def hill(values: Array, share: float) -> float:
    """Hill's estimate k/Σ_{i≤k} log(s_i/s_{k+1}) of the tail index, from the largest part of positive values.

    Source: Hill, "A simple general approach to inference about the tail of a distribution", Annals of
    Statistics 1975.

    Raises:
        UserError: a part in which there is no value, or with all of them; values that are not positive.
    """
    require_shares(share=share)
    for value in (float(values.min(initial=math.inf)), float(values.max(initial=0.0))):
        require_above_zero(values=value)
    count = round(share * values.size)
    if not 1 <= count < values.size:
        raise UserError(f"share = {share} of {values.size} values: must leave at least one on either side")
    largest = np.sort(values, axis=None)[-count - 1 :]
    return float(count / np.log(largest[1:] / largest[0]).sum())


def contraction_norms(d: int, lr: float, batch_size: int, draws: int, draw: np.random.Generator) -> Array:
    """‖(I − (ε/B) Σ xxᵀ)e‖ over minibatches of B vectors x ~ N(0, I_d), for a unit vector e; ``[draws]``.

    With z = (x_1·e, …, x_B·e) the part along e is 1 − (ε/B)‖z‖², the square of the rest (ε/B)²‖z‖²χ²_{d−1}.
    """
    along, rest = draw.chisquare(batch_size, draws), draw.chisquare(d - 1, draws)
    return _norms(along, rest, lr / batch_size)


def _norms(along: Array, rest: Array, rate: float) -> Array:
    return np.sqrt((1 - rate * along) ** 2 + rate**2 * along * rest)


def tail_index(d: int, lr: float, batch_size: int) -> float:
    """α > 0 with E‖(I − (ε/B) Σ xxᵀ)e‖^α = 1 for x ~ N(0, I_d), d ≥ 2, by quadrature; 2 at ε = 2B/(d + B +
    1).

    Raises:
        UserError: E log‖·‖ ≥ 0, where there is no stationary law; an index above 100.
    """
    from scipy.optimize import brentq

    (along, first), (rest, second) = (_chi_squared(k) for k in (batch_size, d - 1))
    weights = first[:, None] * second
    logs = np.log(_norms(along[:, None], rest, lr / batch_size))
    if (weights * logs).sum() >= 0:
        raise UserError(f"lr = {lr}, batch_size = {batch_size}: E log‖M‖ ≥ 0, so there is no stationary law")

    def above(alpha: float) -> float:
        return float((weights * np.exp(alpha * logs)).sum() - 1)

    high = 1.0
    while above(high) < 0:
        high *= 2
        if high > _LARGEST:
            raise UserError(f"lr = {lr}, batch_size = {batch_size}: the tail index is above {_LARGEST:g}")
    low = high
    while above(low) >= 0:  # convex in α, and falls from 0 at 0
        low /= 2
    return float(brentq(above, low, high, xtol=1e-12))


def _chi_squared(k: int) -> tuple[Array, Array]:
    """Nodes and weights of the mean over χ²_k: generalised Gauss–Laguerre."""
    from scipy.special import roots_genlaguerre

    nodes, weights = roots_genlaguerre(_NODES, k / 2 - 1)
    return 2 * nodes, weights / weights.sum()


def stationary_norms(
    d: int,
    lr: float,
    batch_size: int,
    runs: int,
    begin: int,
    times: int,
    every: int,
    draw: np.random.Generator,
) -> Array:
    """‖w‖ of runs of w ← w − (ε/B) Σ x(x·w − y) with x ~ N(0, I_d) and y ~ N(0, 1), from w = 0.

    The law of ‖w‖ after a step depends on ‖w‖ alone: with z the inputs' parts along w and r = z‖w‖ − y,
    ‖w‖² ← (‖w‖ − (ε/B) z·r)² + (ε/B)²‖r‖²χ²_{d−1}.

    Args:
        begin: steps before the first value.
        times: values of each run.
        every: steps between two values.

    Returns:
        ``[times, runs]``.
    """
    norm, rate, found = np.zeros(runs), lr / batch_size, []
    for step in range(begin + (times - 1) * every + 1):
        if step >= begin and (step - begin) % every == 0:
            found.append(norm)
        z, y = draw.standard_normal((2, batch_size, runs))
        r = z * norm - y
        rest = draw.chisquare(d - 1, runs)
        norm = np.sqrt((norm - rate * (z * r).sum(0)) ** 2 + rate**2 * (r * r).sum(0) * rest)
    return np.array(found)


def stable_noise(alpha: float, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    """Symmetric α-stable numbers of scale 1, E e^(itX) = e^(−|t|^α); at α = 2 normal ones of variance 2.

    Source: Chambers, Mallows & Stuck, "A method for simulating stable random variables", JASA 1976.

    Raises:
        UserError: α not in (0, 2].
    """
    if not 0 < alpha <= 2:
        raise UserError(f"alpha = {alpha}: must be above 0 and at most 2")
    angle = math.pi * (draw.random(shape) - 0.5)
    wait = draw.standard_exponential(shape)
    if alpha == 1:
        return np.tan(angle)
    tilted = (np.cos((1 - alpha) * angle) / wait) ** ((1 - alpha) / alpha)
    return np.sin(alpha * angle) / np.cos(angle) ** (1 / alpha) * tilted


def stationary_mean(curvature: float, lr: float, noise: float, alpha: float) -> float:
    """E|w| of w ← (1 − ελ)w + ε^(1/α)σξ in one direction, with ξ symmetric α-stable and α > 1.

    The law is stable of scale s = σ(ε/(1 − |1 − ελ|^α))^(1/α), and E|w| = (2/π)Γ(1 − 1/α)s.
    """
    scale = noise * (lr / (1 - abs(1 - lr * curvature) ** alpha)) ** (1 / alpha)
    return 2 / math.pi * math.gamma(1 - 1 / alpha) * scale


def noisy_descent_gap(
    inputs: Array, lr: float, noise: float, alphas: tuple[float, ...], runs: int, steps: int, begin: int,
    every: int, draw: np.random.Generator, scale: float,
) -> Array:  # fmt: skip
    """E|r|_test − E|r|_train of w ← w − ε∇F̂ + ε^(1/α)σξ around the minimiser of noise-free least squares.

    Averaged over runs and every so many steps from ``begin`` on. Test inputs are N(0, scale²·I), so that the
    test mean of |x·w| is scale·√(2/π)·‖w‖ exactly.

    Args:
        inputs: x of the training examples, ``[n, d]``; F̂ = ½ mean (x·w)².
        alphas: of the noise, one for each set of runs.

    Returns:
        a gap for each α, ``[A]``.
    """
    n, d = inputs.shape
    hessian = inputs.T @ inputs / n
    w, total, count = np.zeros((len(alphas), runs, d)), np.zeros(len(alphas)), 0
    sizes = np.array([noise * lr ** (1 / alpha) for alpha in alphas])[:, None, None]
    for step in range(1, steps + 1):
        kicks = np.stack([stable_noise(alpha, (runs, d), draw) for alpha in alphas])
        w = w - lr * (w @ hessian) + sizes * kicks
        if step > begin and step % every == 0:
            test = scale * math.sqrt(2 / math.pi) * np.linalg.norm(w, axis=-1)
            total += (test - np.abs(w @ inputs.T).mean(-1)).mean(1)
            count += 1
    return total / count
