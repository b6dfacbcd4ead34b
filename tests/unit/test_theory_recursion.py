"""The risk under changing rates, against torch.optim.SGD by superposition and against the closed forms."""

import numpy as np
import pytest
import torch

from sgdlit.algorithms.rules.sgd import linear_map
from sgdlit.foundations.errors import UserError
from sgdlit.theory.noisy_quadratic import NoisyQuadratic, risk
from sgdlit.theory.optimizers import SGD, HeavyBall
from sgdlit.theory.recursion import risk_of_lrs
from sgdlit.theory.schedules import schedule_risk

MODEL = NoisyQuadratic([1.0, 0.4, 0.05], [0.5, 2.0, 0.1], [1.0, 0.3, 2.0])


def path(lrs, momentum, start, kick):
    """θ of torch.optim.SGD in float64 from ``start``, with a gradient noise of 1 at step ``kick`` only."""
    h, theta = torch.from_numpy(MODEL.curvature), torch.full((3,), float(start), dtype=torch.float64)
    theta.requires_grad_()
    optimizer = torch.optim.SGD([theta], lr=1.0, momentum=momentum)
    out = [theta.detach().clone()]
    for step, lr in enumerate(lrs):
        optimizer.param_groups[0]["lr"] = lr
        theta.grad = h * theta.detach() + float(step == kick)
        optimizer.step()
        out.append(theta.detach().clone())
    return torch.stack(out).numpy()


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_risk_is_the_sum_over_start_and_every_noise_of_torchs_own_updates(momentum):
    """θ is linear in start and noises, and these are independent: their squared responses add up."""
    lrs, batch = [0.9, 0.9, 0.3, 0.5, 0.05, 0.05, 1.3], 3
    squares = MODEL.start * path(lrs, momentum, 1, None) ** 2
    for step in range(len(lrs)):
        squares = squares + MODEL.noise / batch * path(lrs, momentum, 0, step) ** 2
    expected = 0.5 * squares @ MODEL.curvature
    np.testing.assert_allclose(risk_of_lrs(MODEL, lrs, batch, momentum), expected, rtol=1e-12)


def test_risk_is_the_closed_form_at_a_constant_rate_and_in_pieces():
    steps = list(range(300))
    for optimizer, momentum in ((SGD(), 0.0), (HeavyBall(0.9), 0.9)):
        exact = risk(MODEL, optimizer, 0.3, 5, steps)
        np.testing.assert_allclose(risk_of_lrs(MODEL, [0.3] * 299, 5, momentum), exact, rtol=1e-10)
    pieces = risk_of_lrs(MODEL, [0.5] * 40 + [0.05] * 60, 2)
    assert pieces[-1] == pytest.approx(schedule_risk(MODEL, [0.5, 0.05], [40, 60], 2), rel=1e-12)


def test_what_grows_without_bound_and_rates_below_zero_are_refused():
    assert np.isfinite(risk_of_lrs(MODEL, [3.0] * 20, 1)).all()  # unstable, for a while
    with pytest.raises(UserError, match=r"lr = 3.0: the risk exceeds every number at step \d+"):
        risk_of_lrs(MODEL, [3.0] * 1000, 1)
    with pytest.raises(UserError, match=r"lr = -0\.1"):
        risk_of_lrs(MODEL, [0.1, -0.1], 1)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.8, False), (0.8, True)])
def test_the_linear_map_is_what_the_update_rule_does(momentum, nesterov):
    """Two steps of torch's own optimizer on ½hθ² + eθ, with noise e, against M and n."""
    h, lr, noise = 1.7, 0.3, (0.4, -0.2)
    theta = torch.tensor([1.5], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=lr, momentum=momentum, nesterov=nesterov)
    step, hit = linear_map(h, lr, momentum, nesterov)
    state = np.array([1.5, 0.0])
    for e in noise:
        optimizer.zero_grad()
        (0.5 * h * theta**2 + e * theta).sum().backward()
        optimizer.step()
        state = step @ state + hit * e
        assert state[0] == pytest.approx(theta.item(), rel=1e-14)
