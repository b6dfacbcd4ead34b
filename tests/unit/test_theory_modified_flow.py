"""The building blocks of the modified flow, each against a closed form or a second implementation."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from sgdlit.foundations.errors import UserError
from sgdlit.theory.epoch_orders import all_orders, mean_and_spread, paired_orders, sgd_endpoints
from sgdlit.theory.flow import gradient_flow
from sgdlit.theory.implicit_gradient import BarrettDherin, descent_path, modified_path, squared_norm
from sgdlit.theory.losses import flat_losses, flat_parameters, largest_curvature, mean_loss
from sgdlit.theory.minibatch_penalty import (
    enumerated_square_norm,
    expected_square_norm,
    gradient_covariance_trace,
    split_square_norm,
)
from sgdlit.theory.modified_flow import fitted_slope, orders_for, slope_curves
from sgdlit.theory.modified_losses import flat_modified_loss, flat_modified_loss_gd


def quadratics(m: int, size: int, seed: int = 0):
    """½(w − b)ᵀA(w − b) with known Hessians A, as losses and as matrices."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(m, size, size, generator=generator, dtype=torch.float64)
    a = a @ a.mT / size
    b = torch.randn(m, size, generator=generator, dtype=torch.float64)
    return [lambda w, a=a[k], b=b[k]: 0.5 * (w - b) @ a @ (w - b) for k in range(m)], a, b


def test_modified_loss_is_the_closed_form_on_quadratics():
    losses, a, b = quadratics(3, 4)
    w, lr = torch.linspace(-1, 1, 4, dtype=torch.float64), 0.3
    gradients = torch.einsum("kij,kj->ki", a, w - b)
    plain = torch.stack([loss(w) for loss in losses]).mean()
    torch.testing.assert_close(
        flat_modified_loss(losses, lr)(w),
        plain + lr / 4 * gradients.square().sum(1).mean(),
        rtol=1e-14,
        atol=0,
    )
    torch.testing.assert_close(
        flat_modified_loss_gd(losses, lr)(w),
        plain + lr / 4 * gradients.mean(0).square().sum(),
        rtol=1e-14,
        atol=0,
    )
    # The gradient of a minibatch's part is g + (lr/2) H g.
    expected = (gradients + lr / 2 * torch.einsum("kij,kj->ki", a, gradients)).mean(0)
    torch.testing.assert_close(
        torch.func.grad(flat_modified_loss(losses, lr))(w), expected, rtol=1e-13, atol=1e-15
    )


def test_largest_curvature_is_the_largest_eigenvalue():
    losses, a, _ = quadratics(1, 4)
    found = largest_curvature(losses[0], torch.ones(4, dtype=torch.float64))
    assert found == pytest.approx(torch.linalg.eigvalsh(a[0])[-1].item(), rel=1e-6)


def test_flow_is_the_matrix_exponential_on_a_quadratic():
    losses, a, b = quadratics(1, 4)
    start = torch.ones(4, dtype=torch.float64)
    exact = b[0] + torch.linalg.matrix_exp(-1.7 * a[0]) @ (start - b[0])
    torch.testing.assert_close(gradient_flow(losses[0], start, 1.7), exact, rtol=1e-11, atol=1e-13)


def test_flow_refuses_negative_time_and_says_when_it_explodes():
    losses, _, _ = quadratics(1, 2)
    start = torch.ones(2, dtype=torch.float64)
    with pytest.raises(UserError, match="time = -1"):
        gradient_flow(losses[0], start, -1.0)
    with pytest.raises(UserError, match="could not be followed"):
        gradient_flow(lambda w: -(w**4).sum(), start, 10.0)


def test_endpoints_equal_one_loop_per_order():
    losses, a, b = quadratics(3, 4)
    start, lr, n = torch.ones(4, dtype=torch.float64), 0.2, 3
    ends = sgd_endpoints(losses, start, lr, all_orders(3), n)
    for order, end in zip(all_orders(3), ends, strict=True):
        w = start.clone()
        for k in order:
            for _ in range(n):
                w = w - lr * a[k] @ (w - b[k])
        torch.testing.assert_close(end, w, rtol=1e-13, atol=0)


def test_orders_are_all_of_them_up_to_six_and_pairs_beyond():
    assert len({tuple(row.tolist()) for row in all_orders(5)}) == math.factorial(5)
    with pytest.raises(UserError, match=r"m = 7.*up to m = 6"):
        orders_for(7, None, 0)
    pairs = orders_for(7, 3, 0)
    assert pairs.shape == (6, 7)
    assert torch.equal(pairs[:3].flip(1), pairs[3:])
    assert (pairs.sort(1).values == torch.arange(7)).all()
    assert not torch.equal(paired_orders(7, 1, 0), paired_orders(7, 1, 1))


def test_one_pair_has_the_mean_over_all_orders_to_third_order():
    losses, _, _ = quadratics(4, 3)
    start = torch.ones(3, dtype=torch.float64)
    distances, lrs = [], [2.0**-k for k in range(7, 12)]
    for lr in lrs:
        mean, _ = mean_and_spread(sgd_endpoints(losses, start, lr, all_orders(4)))
        pair, _ = mean_and_spread(sgd_endpoints(losses, start, lr, paired_orders(4, 1, 0)))
        distances.append((mean - pair).norm().item())
    assert fitted_slope(lrs, distances) == pytest.approx(3, abs=0.1)


def test_equation_22_by_enumeration_of_all_subsets():
    gradients = torch.randn(9, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for batch_size in range(1, 10):
        enumerated = enumerated_square_norm(gradients, batch_size).item()
        assert expected_square_norm(gradients, batch_size).item() == pytest.approx(enumerated, rel=1e-12)
    left, right = split_square_norm(gradients)
    assert left.item() == pytest.approx(right.item(), rel=1e-12)
    covariance = torch.cov(gradients.T, correction=0)
    assert gradient_covariance_trace(gradients).item() == pytest.approx(covariance.trace().item(), rel=1e-12)


def test_enumeration_has_a_limit_and_batch_sizes_are_checked():
    gradients = torch.zeros(40, 1, dtype=torch.float64)
    with pytest.raises(UserError, match="137846528820 subsets"):
        enumerated_square_norm(gradients, 20)
    for batch_size in (0, 41):
        with pytest.raises(UserError, match=f"batch_size = {batch_size}"):
            expected_square_norm(gradients, batch_size)


def test_flat_losses_are_the_network_losses():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0])
    losses = flat_losses(model, nn.functional.cross_entropy, [(x[:3], y[:3]), (x[3:], y[3:])])
    w = flat_parameters(model)
    expected = nn.functional.cross_entropy(model(x), y)
    torch.testing.assert_close(mean_loss(losses)(w), expected, rtol=1e-14, atol=0)
    expected.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    torch.testing.assert_close(torch.func.grad(mean_loss(losses))(w), gradient, rtol=1e-12, atol=1e-15)


def test_slopes_need_two_positive_rates():
    losses, _, _ = quadratics(2, 2)
    with pytest.raises(UserError, match="at least two rates"):
        slope_curves(losses, torch.ones(2, dtype=torch.float64), [0.1], all_orders(2))


def test_gradient_of_the_two_dimensional_example_is_that_of_its_modified_loss():
    problem, point = BarrettDherin(x=1.3), torch.tensor([0.7, -1.9], dtype=torch.float64)
    loss = flat_modified_loss([lambda p: 0.5 * (problem.y - problem.x * p[0] * p[1]) ** 2], 0.4)
    expected = torch.func.grad(loss)(point)
    torch.testing.assert_close(
        torch.from_numpy(problem.gradient(point.numpy(), 0.4)), expected, rtol=1e-13, atol=0
    )


def test_gradient_flow_of_the_two_dimensional_example_keeps_its_invariant():
    problem = BarrettDherin()
    a, b = modified_path(problem, 0.0, 5.0)[-1]
    assert a**2 - b**2 == pytest.approx(2.8**2 - 3.5**2, rel=1e-10)
    assert a * b == pytest.approx(0.6, rel=1e-6)
    # With a² − b² and ab known, a² + b² = √((a² − b²)² + 4 (ab)²).
    assert a**2 + b**2 == pytest.approx(math.hypot(2.8**2 - 3.5**2, 1.2), rel=1e-6)


def test_small_steps_follow_the_modified_flow_to_second_order():
    problem, steps = BarrettDherin(), [0.0005 * 2**k for k in range(4)]
    gaps = [
        squared_norm(modified_path(problem, h, 4.0)) - squared_norm(descent_path(problem, h, 4.0))
        for h in steps
    ]
    assert fitted_slope(steps, gaps) == pytest.approx(2, abs=0.1)


def test_descent_that_diverges_names_the_largest_step():
    with pytest.raises(UserError, match=r"step = 0\.5.*steps far above 0\.0\d+"):
        descent_path(BarrettDherin(), 0.5, 5.0)
    with pytest.raises(UserError, match="step = 0"):
        descent_path(BarrettDherin(), 0.0, 5.0)


def test_the_room_offers_its_names_and_imports_no_trainer():
    script = (
        "import sys, sgdlit.theory as t\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "assert all(callable(getattr(t, name)) for name in t.__all__)\n"
        "assert not {'lightning', 'pytorch_lightning', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
