"""The noisy quadratic model against step-by-step recursions, brute force and exact rational limits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdlit.foundations.errors import UserError
from sgdlit.theory.first_crossing import best_constant_lr, lr_grid, steps_to_target
from sgdlit.theory.noisy_quadratic import ExactRisk, NoisyQuadratic, risk
from sgdlit.theory.optimizers import SGD, AveragedSGD, HeavyBall
from sgdlit.theory.schedules import (
    Schedule,
    best_schedules,
    first_step_in_piece,
    log_risk_and_gradient,
    optimise_schedule,
    schedule_moments,
    schedule_risk,
)
from sgdlit.theory.simulation import simulate


def recursion(x, optimizer, steps, s0=1.0, n=0.3):
    """Second moments by F5, F8 and F9, one step at a time in extended precision; rows are steps."""
    x = np.asarray(x, dtype=np.longdouble)
    zero = np.zeros_like(x)
    if isinstance(optimizer, HeavyBall):
        b = np.longdouble(optimizer.momentum)
        a, v, k, out = zero + s0, zero, zero, [zero + s0]
        for _ in range(steps):
            a, v, k = (
                (1 - x) ** 2 * a + b**2 * v + 2 * (1 - x) * b * k + n,
                x**2 * a + b**2 * v - 2 * x * b * k + n,
                -(1 - x) * x * a + b**2 * v + (1 - 2 * x) * b * k + n,
            )
            out.append(a)
        return np.stack(out)
    mu = np.longdouble(getattr(optimizer, "decay", 0.0))
    a, z, k = zero + s0, zero + s0 / (1 - mu) ** 2, zero + s0 / (1 - mu)
    out = [zero + s0]
    for _ in range(steps):
        moved = (1 - x) ** 2 * a
        a, z, k = moved + n, moved + mu**2 * z + 2 * mu * (1 - x) * k + n, moved + mu * (1 - x) * k + n
        out.append((1 - mu) ** 2 * z)
    return np.stack(out)


def critical(optimizer):
    """Where the two roots meet."""
    if isinstance(optimizer, HeavyBall):
        root = math.sqrt(optimizer.momentum)
        return [((1 - optimizer.momentum) / (1 + root)) ** 2, (1 + root) ** 2]
    return [1 - optimizer.decay] if isinstance(optimizer, AveragedSGD) else [1.0]


OPTIMIZERS = [SGD()] + [kind(value) for kind in (HeavyBall, AveragedSGD) for value in (0.0, 0.3, 0.9, 0.99)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_closed_form_is_the_recursion_also_at_and_near_critical_damping(optimizer):
    near = [
        c * (1 + s * 10.0**-e) for c in critical(optimizer) for e in (2, 4, 6, 9, 12, 15) for s in (1, -1)
    ]
    x = np.array([1e-12, 1e-8, 1e-5, 1e-3, 0.1, 0.5, 1.0, 1.5, 1.9, *critical(optimizer), *near])
    x = x[x < optimizer.stable_below()]
    steps = 2000
    exact = recursion(x, optimizer, steps)
    response = optimizer.response(x)
    for k in (0, 1, 2, 3, 8, 33, 250, steps):
        moments = response.mean(k) ** 2 + 0.3 * response.energy(k)
        np.testing.assert_allclose(moments, exact[k].astype(float), rtol=1e-10)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_the_limit_of_many_steps_is_the_stationary_variance(optimizer):
    x = np.array([1e-3, 0.1, 0.5, 1.0, 1.7])
    response = optimizer.response(x)
    np.testing.assert_allclose(response.energy(10**7), response.limit(), rtol=1e-12)
    np.testing.assert_allclose(response.mean(10**7), 0, atol=1e-300)


def test_small_rates_lose_no_digits():
    """energy = k (1 − (k − 1) x + …) for SGD at x = 1e-13; summing k = 1e6 terms would round 1e6 times."""
    x, k = 1e-13, 10**6
    energy = SGD().response(np.array([x])).energy(k)[0]
    assert energy == pytest.approx(k * (1 - (k - 1) * x), rel=1e-13)


def test_risk_of_a_whole_model_with_preconditioner():
    """F7: rate (1 − αh^{1−γ})^{2k} and floor αch^{−γ}/(2B(2 − αh^{1−γ}))."""
    model = NoisyQuadratic([1.0, 0.2, 0.01], [0.5, 0.3, 0.2], [1.0, 2.0, 3.0])
    lr, batch, gamma = 0.4, 7, 0.5
    rho = 1 - lr * model.curvature ** (1 - gamma)
    floor = lr * model.noise * model.curvature**-gamma / (2 * batch * (1 + rho))
    for k in (0, 1, 5, 300):
        expected = (rho ** (2 * k) * 0.5 * model.curvature * model.start + (1 - rho ** (2 * k)) * floor).sum()
        assert risk(model, SGD(gamma), lr, batch, [k])[0] == pytest.approx(expected, rel=1e-12)
    assert ExactRisk(model, SGD(gamma), lr).floor(batch) == pytest.approx(floor.sum(), rel=1e-12)
    moments = ExactRisk(model, SGD(gamma), lr).second_moments(5, batch)
    assert 0.5 * model.curvature @ moments == pytest.approx(risk(model, SGD(gamma), lr, batch, 5).item())


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["sgd", "ball", "average"]),
    decay=st.sampled_from([0.2, 0.8, 0.95]),
    rate=st.floats(0.005, 0.97),
    batch=st.floats(0.3, 300),
    target=st.floats(0.01, 0.6),
)
def test_first_step_is_that_of_brute_force(kind, decay, rate, batch, target):
    model = NoisyQuadratic([1.0, 0.5, 0.25, 0.1, 0.03], [1.0, 0.5, 2.0, 0.1, 0.2], [1.0, 0.2, 3.0, 2.0, 1.0])
    optimizer = {"sgd": SGD(0.25), "ball": HeavyBall(decay), "average": AveragedSGD(decay)}[kind]
    run = ExactRisk(model, optimizer, rate * model.largest_lr(optimizer))
    risks = np.array([run.risk(k, batch) for k in range(400)])
    reached = np.flatnonzero(risks <= target)
    found = steps_to_target(run, batch, target)
    if len(reached):
        assert found == reached[0]
    else:
        assert found is None or found >= len(risks)


def test_the_first_crossing_counts_even_if_the_risk_rises_again():
    """One direction falls at once, the other slowly fills with noise above the target."""
    model = NoisyQuadratic([1.0, 0.001], [0.0, 1.0], [1.0, 0.0])
    run = ExactRisk(model, SGD(), 0.9)
    assert run.floor(1) > 0.01
    assert steps_to_target(run, 1, 0.01) == 1


def test_best_rate_is_that_of_trying_all():
    model = NoisyQuadratic.power_law(30)
    batches, target = [1, 16, 256, 10**5], 0.05
    for optimizers in (
        [SGD()],
        [HeavyBall(0.5), HeavyBall(0.9)],
        [AveragedSGD(0.9), AveragedSGD(0.99)],
    ):
        fast = best_constant_lr(model, optimizers, batches, target, points=25, decades=4)
        for i, batch in enumerate(batches):
            every = {
                (o, float(lr)): steps_to_target(ExactRisk(model, o, lr), batch, target)
                for o in optimizers
                for lr in lr_grid(model, o, 25, 4)
            }
            reached = {key: steps for key, steps in every.items() if steps is not None}
            assert fast[i].steps == min(reached.values())
            fastest = [(o, lr) for (o, lr), steps in reached.items() if steps == fast[i].steps]
            assert (fast[i].optimizer, fast[i].lr) == fastest[0]


def test_a_hopeless_large_rate_rules_out_no_smaller_one():
    """Near αh = 2 the risk hardly falls; at αh = 1 one step does."""
    model, target = NoisyQuadratic([1.0], [1e-9], [1.0]), 1e-4
    grid = lr_grid(model, SGD(), 25, 0.5)
    every = [steps_to_target(ExactRisk(model, SGD(), float(lr)), 1, target) for lr in grid]
    (best,) = best_constant_lr(model, [SGD()], [1], target, points=25, decades=0.5)
    assert best.steps == min(every) < every[15]
    assert best.lr == grid[every.index(best.steps)]


def test_a_target_below_every_floor_is_never_reached():
    model = NoisyQuadratic([1.0], [1.0], [1.0])
    assert steps_to_target(ExactRisk(model, SGD(), 0.5), 1, 1e-3) is None
    assert steps_to_target(ExactRisk(model, SGD(), 0.5), 1, 0.6) == 0
    exact = ExactRisk(model, SGD(), 0.5).floor(1)
    assert steps_to_target(ExactRisk(model, SGD(), 0.5), 1, exact * (1 - 1e-12)) is None
    best = best_constant_lr(model, [SGD()], [1], 1e-9, points=3, decades=1)
    assert best == [None]
    assert best_schedules(model, best, 1e-9, pieces=2) == [None]


def test_schedule_is_the_recursion_and_its_optimum_beats_the_constant_rate():
    model = NoisyQuadratic.power_law(50)
    lrs, durations = [1.5, 0.3, 0.02], [4, 30, 7]
    s = model.start
    for lr in np.repeat(lrs, durations):
        s = (1 - lr * model.curvature) ** 2 * s + lr**2 * model.noise / 3
    np.testing.assert_allclose(schedule_moments(model, lrs, durations, 3)[-1], s, rtol=1e-12)
    constant = best_constant_lr(model, [SGD()], [1, 64], 0.02)
    for best, schedule in zip(constant, best_schedules(model, constant, 0.02, 5), strict=True):
        assert schedule.steps < best.steps
        reached = schedule_risk(model, schedule.lrs, schedule.durations, best.batch_size)
        before = schedule_risk(
            model, schedule.lrs, (*schedule.durations[:-1], schedule.durations[-1] - 1), best.batch_size
        )
        assert reached <= 0.02 < before
        assert model.bayes_risk(schedule.steps, best.batch_size) <= 0.02


def test_one_direction_and_one_piece_is_the_best_constant_rate():
    """With one piece the optimiser must find what a fine grid of constant rates finds."""
    model = NoisyQuadratic([1.0], [1.0], [1.0])
    grid = best_constant_lr(model, [SGD()], [1], 0.005, points=4000, decades=3)[0]
    schedule, _ = optimise_schedule(
        model, 1, 0.005, (np.array([grid.lr * 1.3]), np.array([grid.steps * 1.5]))
    )
    assert schedule.steps == pytest.approx(grid.steps, abs=1)


@pytest.mark.parametrize("optimizer", [SGD(0.25), HeavyBall(0.8), AveragedSGD(0.8)], ids=str)
def test_monte_carlo_agrees_within_four_standard_errors(optimizer):
    model = NoisyQuadratic.power_law(20)
    record = [0, 1, 10, 60]
    simulated = simulate(model, optimizer, [0.3] * 60, 4, runs=3000, seed=1, record=record)
    expected = risk(model, optimizer, 0.3, 4, record)
    error = simulated.std(1, ddof=1) / math.sqrt(simulated.shape[1])
    assert (np.abs(simulated.mean(1) - expected) < 4 * error).all()


def test_bounds_no_method_beats():
    model = NoisyQuadratic.power_law(40)
    assert model.information_bound(0.01, 4) == 40 / (2 * 0.01 * 4)
    for optimizer in (SGD(), SGD(0.5), HeavyBall(0.9), AveragedSGD(0.9)):
        for lr in lr_grid(model, optimizer, 8, 3):
            for k in (1, 10, 1000, 10**6):
                assert risk(model, optimizer, lr, 2, [k])[0] >= model.bayes_risk(k, 2)


def test_bad_input_is_named():
    with pytest.raises(UserError, match=r"curvature\[1\] = -0.1"):
        NoisyQuadratic([1.0, -0.1], [1, 1], [1, 1])
    with pytest.raises(UserError, match=r"noise\[0\] = -1"):
        NoisyQuadratic([1.0], [-1], [1])
    with pytest.raises(UserError, match="one length"):
        NoisyQuadratic([1.0], [1, 1], [1, 1])
    model = NoisyQuadratic.power_law(3)
    with pytest.raises(UserError, match=r"lr = 2.0: must lie above 0 and below 2, where α·h reaches"):
        ExactRisk(model, SGD(), 2.0)
    with pytest.raises(UserError, match="below 3, where"):
        ExactRisk(model, HeavyBall(0.5), 3.0)
    with pytest.raises(UserError, match=r"momentum = 1\.0"):
        HeavyBall(1.0)
    with pytest.raises(UserError, match=r"decay = -0\.1"):
        AveragedSGD(-0.1)
    with pytest.raises(UserError, match="target = 0"):
        steps_to_target(ExactRisk(model, SGD(), 1.0), 1, 0.0)
    with pytest.raises(UserError, match="batch_size = 0"):
        steps_to_target(ExactRisk(model, SGD(), 1.0), 0, 0.1)
    with pytest.raises(UserError, match="schedule"):
        schedule_risk(model, [2.5], [3], 1)
    assert Schedule((0.1, 0.2), (3, 4)).steps == 7


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_the_lower_bound_on_an_interval_is_one(optimizer):
    """Compared with the least mean(k)² of every interval, in all regimes of damping."""
    top = optimizer.stable_below()
    x = np.concatenate([np.linspace(0.01, 0.999, 37) * top, np.geomspace(1e-5, 1e-2, 20)])
    response = optimizer.response(x)
    means = np.stack([response.mean(k) for k in range(60)])
    for a, b in [(0, 1), (0, 59), (1, 2), (1, 6), (3, 10), (7, 40), (20, 24)]:
        bound = response.least_square(a, b, means[a].copy(), means[b].copy())
        assert (bound <= (means[a : b + 1] ** 2).min(0) * (1 + 1e-9) + 1e-30).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_means_fall_with_the_rate_where_they_are_said_to(optimizer):
    x = np.concatenate([np.geomspace(1e-9, 0.9, 200), np.linspace(0.91, 1.0, 50)]) * optimizer.steady_below()
    for k in (1, 2, 3, 10, 77, 1000, 10**6):
        means = optimizer.response(x).mean(k)
        assert (means >= 0).all()
        assert (np.diff(means) <= 1e-12 * means[:-1]).all()


def test_gradient_of_a_schedule_is_that_of_finite_differences():
    model, z = NoisyQuadratic.power_law(30), np.log([1.5, 0.9, 0.2, 3.7, 20.0, 41.5])
    value, gradient = log_risk_and_gradient(model, 5, z)
    assert value == pytest.approx(math.log(schedule_risk(model, np.exp(z[:3]), np.exp(z[3:]), 5)), rel=1e-12)
    for i, unit in enumerate(np.eye(6) * 1e-5):
        ahead, behind = (log_risk_and_gradient(model, 5, z + s * unit)[0] for s in (1, -1))
        assert gradient[i] == pytest.approx((ahead - behind) / 2e-5, rel=1e-6, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    rate=st.floats(0.01, 0.97),
    batch=st.floats(0.1, 50),
    target=st.floats(0.02, 1.0),
    start=st.integers(0, 2**16),
)
def test_first_step_in_a_piece_is_that_of_brute_force(rate, batch, target, start):
    """Also where some directions rise while others fall."""
    model = NoisyQuadratic([1.0, 0.5, 0.25, 0.1, 0.03], [1.0, 0.5, 2.0, 0.1, 0.2], np.ones(5))
    moments = np.exp(np.random.default_rng(start).normal(size=5) * 2 - 1)
    lr, s, risks = 2 * rate, moments, []
    for _ in range(201):
        risks.append(0.5 * model.curvature @ s)
        s = (1 - lr * model.curvature) ** 2 * s + lr**2 * model.noise / batch
    reached = np.flatnonzero(np.array(risks) <= target)
    found = first_step_in_piece(model, lr, 200, batch, target, moments)
    assert found == (reached[0] if len(reached) else None)
