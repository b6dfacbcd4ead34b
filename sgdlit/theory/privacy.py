"""The accountant of noisy training on Poisson minibatches: how much privacy some steps cost.

Source: Mironov, Talwar & Zhang 2019, arXiv:1908.10530, for the subsampled Gaussian; Balle et al. 2020,
arXiv:1905.09982, theorem 21, from Rényi divergences to (ε, δ).
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln, logsumexp

from sgdlit.foundations.errors import UserError

_ORDERS = tuple(range(2, 513))


def rdp_of_sampled_gaussian(rate: float, noise: float, order: int) -> float:
    """D_α of one step: log(Σ_k C(α, k)(1 − q)^(α−k) q^k e^(k(k−1)/2σ²))/(α − 1), in nats.

    Args:
        rate: q, probability with which a step sees an example.
        noise: σ, standard deviation of the noise over the clipping threshold.
        order: α, an integer of at least 2.
    """
    k = np.arange(order + 1)
    binomial = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.where(k > 0, k * np.log(rate), 0.0)
        unseen = np.where(order - k > 0, (order - k) * np.log1p(-rate), 0.0)
    return float(logsumexp(binomial + seen + unseen + k * (k - 1) / (2 * noise**2))) / (order - 1)


def epsilon(
    rate: float, noise: float, steps: int, delta: float, orders: Sequence[int] = _ORDERS
) -> tuple[float, int]:
    """ε of (ε, δ)-differential privacy after some steps, and the order α at which it is least.

    ε = min_α S·D_α + log((α − 1)/α) − (log δ + log α)/(α − 1).

    Args:
        rate: q in (0, 1].
        noise: σ above 0.
        steps: S.
        delta: δ in (0, 1).
        orders: integers α of at least 2.

    Raises:
        UserError: a number outside of these.
    """
    if not (0 < rate <= 1 and noise > 0 and steps >= 0 and 0 < delta < 1 and min(orders) >= 2):
        raise UserError(
            f"rate = {rate}, noise = {noise}, steps = {steps}, delta = {delta}: allowed are a rate "
            f"above 0 and up to "
            "1, noise above 0, steps from 0, delta between 0 and 1, orders from 2"
        )
    alpha = np.array(orders, dtype=np.float64)
    divergences = np.array([rdp_of_sampled_gaussian(rate, noise, order) for order in orders])
    bounds = steps * divergences + np.log1p(-1 / alpha) - (np.log(delta) + np.log(alpha)) / (alpha - 1)
    best = int(bounds.argmin())
    return max(0.0, float(bounds[best])), orders[best]
