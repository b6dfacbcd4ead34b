"""The optimizers that torch does not have, against their papers' algorithms on one flat vector in numpy."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from rule_runs import STEPS, gradient, parameters, trainable
from torch.optim import Optimizer

from sgdlit.algorithms import rules
from sgdlit.algorithms.rules import RuleOptimizer
from sgdlit.algorithms.rules.accelerated_sgd import AcceleratedSGD
from sgdlit.algorithms.rules.adagrad_norm import AdaGradNorm
from sgdlit.algorithms.rules.sparse_momentum import GSM
from sgdlit.algorithms.rules.swats import SWATS
from sgdlit.foundations.errors import UserError

Array = np.ndarray
WEIGHTS = 12  # of the 13 trainable numbers; the last is no matrix
MANY = 40


def flat(tensors: list[torch.Tensor]) -> Array:
    return torch.cat([t.detach().flatten() for t in tensors]).numpy().copy()


def found(optimizer: Optimizer, steps: int) -> Iterator[Array]:
    """The trainable parameters after each step."""
    for step in range(steps):
        for p, g in zip(trainable(optimizer), gradient(step, 0), strict=True):
            p.grad = g
        optimizer.step()
        yield flat(trainable(optimizer))


def adagrad_norm(w: Array, steps: int, lr: float = 1.0, gamma: float = 0.01) -> Iterator[Array]:
    total = gamma**2
    for step in range(steps):
        g = flat(gradient(step, 0))
        total += g @ g
        w = w - lr / np.sqrt(total) * g
        yield w


def gsm(
    w: Array, steps: int, lr: float = 0.005, momentum: float = 0.98, weight_decay: float = 5e-4,
    keep: float = 0.05,
) -> Iterator[Array]:  # fmt: skip
    z = np.zeros_like(w)
    for step in range(steps):
        g = flat(gradient(step, 0))
        active = np.argsort(-np.abs(w * g)[:WEIGHTS])[: max(1, round(keep * WEIGHTS))]
        mask = np.isin(np.arange(len(w)), [*active, WEIGHTS])
        z = momentum * z + weight_decay * w + mask * g
        w = w - lr * z
        yield w


def accelerated(
    w: Array, steps: int, lr: float = 0.01, long_step: float = 10.0, beta: float = 0.005,
    alpha: float | None = None,
) -> Iterator[Array]:  # fmt: skip
    alpha = 1 / (1 + beta) if alpha is None else alpha
    v = w
    for step in range(steps):
        u, g = alpha * w + (1 - alpha) * v, flat(gradient(step, 0))
        w, v = u - lr * g, beta * u + (1 - beta) * v - lr * long_step * g
        yield alpha * w + (1 - alpha) * v


def swats(
    w: Array, steps: int, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
    tolerance: float = 1e-9, relative: bool = False, switch_step: int | None = None,
) -> Iterator[Array]:  # fmt: skip
    """Keskar & Socher 2017, algorithm 1."""
    first, second = betas
    m, a, v, mean, rate = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w), 0.0, None
    for step in range(steps):
        k, g = step + 1, flat(gradient(step, 0))
        if rate is not None:
            v = first * v + g
            w = w - (1 - first) * rate * v
            yield w
            continue
        m, a = first * m + (1 - first) * g, second * a + (1 - second) * g * g
        p = -lr * np.sqrt(1 - second**k) / (1 - first**k) * m / (np.sqrt(a) + eps * np.sqrt(1 - second**k))
        w = w + p
        gamma = p @ p / -(p @ g)
        mean = second * mean + (1 - second) * gamma
        settled = mean / (1 - second**k)
        close = abs(settled - gamma) < tolerance * (abs(gamma) if relative else 1)
        if (k > 1 and close and switch_step is None) or k == switch_step:
            rate = settled
        yield w


CASES: list[tuple[type[RuleOptimizer], Callable[..., Iterator[Array]], dict[str, Any]]] = [
    (AdaGradNorm, adagrad_norm, {}),
    (AdaGradNorm, adagrad_norm, {"lr": 0.1, "gamma": 2.0}),
    (GSM, gsm, {}),
    (GSM, gsm, {"keep": 0.5, "momentum": 0.5, "weight_decay": 0.1, "lr": 0.1}),
    (GSM, gsm, {"keep": 1.0}),
    (AcceleratedSGD, accelerated, {}),
    (AcceleratedSGD, accelerated, {"alpha": 0.7, "beta": 0.3, "long_step": 3.0}),
    (SWATS, swats, {}),
    (SWATS, swats, {"switch_step": 1}),
    (SWATS, swats, {"switch_step": 5, "betas": (0.5, 0.9)}),
    (SWATS, swats, {"tolerance": 0.5, "relative": True}),
    (SWATS, swats, {"tolerance": 0.002}),
]


@pytest.mark.parametrize(("optimizer", "algorithm", "settings"), CASES)
def test_an_optimizer_is_the_algorithm_of_its_paper(optimizer, algorithm, settings):
    steps = optimizer(parameters(0), **settings)
    start = flat(trainable(steps))
    for own, expected in zip(found(steps, MANY), algorithm(start, MANY, **settings), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("settings", [{"tolerance": 0.5, "relative": True}, {"tolerance": 0.002}])
def test_swats_goes_over_where_gamma_has_settled(settings):
    """These tolerances are met within the steps of the test above, so that it sees both of its phases."""
    optimizer = SWATS(parameters(0), **settings)
    for _ in found(optimizer, MANY):
        pass
    assert all(optimizer.state[p]["switched"] == 1 for p in trainable(optimizer))
    assert optimizer.state[trainable(optimizer)[0]]["sgd_over_adam"] != 0


def test_a_schedule_moves_the_rate_that_swats_has_learned():
    """Half the rate after the switch is half the steps from then on."""
    whole, half = (SWATS(parameters(0), switch_step=2) for _ in range(2))
    for _ in range(2):
        for optimizer in (whole, half):
            next(found(optimizer, 1))
    half.param_groups[0]["lr"] /= 2
    before = flat(trainable(whole))
    steps = [next(found(optimizer, 1)) - before for optimizer in (whole, half)]
    np.testing.assert_allclose(steps[1], steps[0] / 2, rtol=1e-9)


def test_sparse_momentum_lets_as_many_through_as_it_says():
    rule = rules.rule_of([GSM(parameters(0), keep=0.25)])
    w, b = torch.randn(2, 4, 3), torch.randn(2, 5)
    masked = rule.masked([w, b], [torch.ones_like(w), torch.ones_like(b)], torch.Size([2]))
    assert masked[0].flatten(1).sum(1).tolist() == [3.0, 3.0]
    assert masked[1].sum() == 10
    for k in range(2):
        kept = masked[0][k] > 0
        assert w[k][kept].abs().min() > w[k][~kept].abs().max()


@pytest.mark.parametrize("optimizer", [AdaGradNorm, GSM, AcceleratedSGD, SWATS])
def test_a_parameter_without_a_gradient_stays(optimizer):
    own = optimizer(parameters(0))
    before = own.param_groups[0]["params"][1].clone()
    assert [*found(own, STEPS)]
    assert torch.equal(before, own.param_groups[0]["params"][1])
    assert own.step(lambda: 3.0) == 3.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdaGradNorm([torch.zeros(1)], gamma=0.0), "optimizer.gamma: 0.0 is not possible"),
        (lambda: GSM([torch.zeros(1)], keep=0.0), "optimizer.keep: 0.0 is not possible"),
        (lambda: AcceleratedSGD([torch.zeros(1)], alpha=1.5), "optimizer.alpha: 1.5 is not possible"),
        (lambda: SWATS([torch.zeros(1)], switch_step=0), "optimizer.switch_step: 0 is not possible"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
