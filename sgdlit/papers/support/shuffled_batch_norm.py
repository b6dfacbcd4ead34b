"""SGD on a linear model of batch-normalised inputs: what a single shuffle and reshuffling end at."""

from typing import NamedTuple

import numpy as np

from sgdlit.theory.batch_norm import in_batches, is_separable, normalised
from sgdlit.theory.draws import numbered_generator

Array = np.ndarray


class Hard(NamedTuple):
    """Examples that full-batch normalisation does not separate, and an order whose batches it does."""

    inputs: Array
    labels: Array
    order: Array
    tries: int


def regression_data(seed: int, examples: int, d: int) -> tuple[Array, Array, np.random.Generator]:
    """y = x·w + noise, all normal: inputs ``[n, d]``, targets ``[n]``, and the generator, to go on."""
    rng = numbered_generator(seed, 25)
    x = rng.standard_normal((examples, d))
    return x, x @ rng.standard_normal(d) + rng.standard_normal(examples), rng


def regression_sgd(inputs: Array, targets: Array, orders: Array, batch_size: int, lr: float) -> Array:
    """M after SGD on ½(y − M·BN(x))², the rate falling linearly to 0.

    Args:
        inputs: ``[S, n, d]``, one set for each run.
        targets: ``[S, n]``.
        orders: of each epoch, int64 ``[epochs, S, n]``.
        batch_size: B.
        lr: at the beginning.

    Returns:
        ``[S, d]``.
    """
    runs, everyone = len(inputs), np.arange(len(inputs))[:, None]
    m, epochs, total = (
        np.zeros((runs, inputs.shape[2])),
        len(orders),
        orders.shape[0] * orders.shape[2] // batch_size,
    )
    step = 0
    for epoch in range(epochs):
        seen, wanted = inputs[everyone, orders[epoch]], targets[everyone, orders[epoch]]
        batches = normalised(seen.reshape(runs, -1, batch_size, seen.shape[2]))
        wanted = wanted.reshape(runs, -1, batch_size)
        for k in range(batches.shape[1]):
            x = batches[:, k]
            error = (x @ m[:, :, None])[:, :, 0] - wanted[:, k]
            m = m - lr * (1 - step / total) * (error[:, None, :] @ x)[:, 0] / batch_size
            step += 1
    return m


def hard_classification(seed: int, examples: int, d: int, batch_size: int, orders: int) -> Hard:
    """Normal inputs with alternating labels, drawn again until they are :class:`Hard`."""
    rng = numbered_generator(seed, 26)
    labels = np.resize([1.0, -1.0], examples)
    for tries in range(1, 10_000):
        x = rng.standard_normal((examples, d))
        candidates = np.stack([rng.permutation(examples) for _ in range(orders)])
        if is_separable(normalised(x), labels):
            continue
        for order in candidates:
            signs = labels[order].reshape(-1, batch_size)
            same = (np.abs(signs.sum(1)) == batch_size).any()
            if not same and is_separable(in_batches(x, order, batch_size), labels[order]):
                return Hard(x, labels, order, tries)
    raise RuntimeError("no hard examples in 10 000 draws")


class LossCurve(NamedTuple):
    """At some epochs: loss over the epoch's batches, full-batch risk and ‖M‖, ``[records, runs]`` each."""

    loss: Array
    risk: Array
    norm: Array


def logistic_risk(m: Array, inputs: Array, labels: Array) -> Array:
    """Mean of log(1 + exp(−y·Mx)), ``[S]``, of M ``[S, d]``, ``[S, n, d]`` and ``[S, n]``."""
    return np.logaddexp(0, -labels * (inputs @ m[:, :, None])[:, :, 0]).mean(1)


def classification_sgd(
    cases: list[Hard], batch_size: int, lr: float, records: list[int], seed: int
) -> tuple[LossCurve, LossCurve]:
    """A single shuffle in each case's order, and reshuffling, side by side, without bias from M = 0.

    Args:
        cases: one for each run.
        batch_size: B.
        lr: constant.
        records: epochs at which something is written down, ascending; the last is the end.
        seed: of the reshuffling.

    Returns:
        the curves of the single shuffle and of reshuffling.
    """
    x, y = np.stack([c.inputs for c in cases] * 2), np.stack([c.labels for c in cases] * 2)
    runs, single = len(cases), np.stack([c.order for c in cases])
    rng = numbered_generator(seed, 27)
    everyone, whole = np.arange(2 * runs)[:, None], normalised(x)
    m, found = np.zeros((2 * runs, x.shape[2])), []
    for epoch in range(1, records[-1] + 1):
        order = np.concatenate([single, rng.permuted(np.tile(np.arange(y.shape[1]), (runs, 1)), axis=1)])
        batches = normalised(x[everyone, order].reshape(2 * runs, -1, batch_size, x.shape[2]))
        labels = y[everyone, order].reshape(2 * runs, -1, batch_size)
        if epoch in records:
            flat = batches.reshape(x.shape), labels.reshape(y.shape)
            found.append((logistic_risk(m, *flat), logistic_risk(m, whole, y), np.linalg.norm(m, axis=1)))
        for k in range(batches.shape[1]):
            signed = labels[:, k, :, None] * batches[:, k]
            slope = -1 / (1 + np.exp(np.clip((signed @ m[:, :, None])[:, :, 0], -500, 500)))
            m = m - lr * (slope[:, None, :] @ signed)[:, 0] / batch_size
    loss, risk, norm = (np.stack(part) for part in zip(*found, strict=True))
    return (
        LossCurve(loss[:, :runs], risk[:, :runs], norm[:, :runs]),
        LossCurve(loss[:, runs:], risk[:, runs:], norm[:, runs:]),
    )


def least_risk(inputs: Array, labels: Array) -> float:
    """The least full-batch risk of examples that are not separable, by Newton's method in scipy."""
    from scipy.optimize import minimize

    x = labels[:, None] * normalised(inputs)

    def risk(m: Array) -> tuple[float, Array]:
        margins = x @ m
        slope = -1 / (1 + np.exp(np.clip(margins, -500, 500)))
        return float(np.logaddexp(0, -margins).mean()), slope @ x / len(x)

    return float(minimize(risk, np.zeros(x.shape[1]), jac=True, method="BFGS").fun)
