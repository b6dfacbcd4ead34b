"""The explicit regularizer: its gradient against closed forms, differences and a second implementation."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP, WideResNet
from sgdlit.objectives import (
    LOSSES,
    ExactPenalty,
    frozen_statistics,
    modified_loss,
)

CROSS_ENTROPY = LOSSES["cross_entropy"]


def wide_resnet(activation="relu", **kwargs):
    """A float64 WRN-10-1 whose residual branches take part, which they do not at their start."""
    torch.manual_seed(0)
    network = WideResNet(activation=activation, **kwargs).double()
    for block in network.blocks:
        if block.scale is not None:
            nn.init.constant_(block.scale, 0.5)
    for parameter in network.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.1)
    return network


def images(batch, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 3, 32, 32, generator=generator, dtype=dtype)
    return x, torch.randint(10, (batch,), generator=generator)


def gradient(loss, network):
    return torch.autograd.grad(loss, list(network.parameters()))


def assert_close(found, expected, tolerance):
    """Relative to the length of the whole gradient."""
    scale = math.sqrt(sum(e.square().sum().item() for e in expected))
    for f, e in zip(found, expected, strict=True):
        assert (f - e).norm().item() <= tolerance * scale


def test_quadratic_has_the_closed_form():
    """C = ½ θᵀAθ: the value is C + λ/4 ‖Aθ‖² and the gradient Aθ + λ/2 A²θ."""
    torch.manual_seed(0)
    factor = torch.randn(6, 6, dtype=torch.float64)
    A = factor @ factor.T
    theta = torch.randn(6, dtype=torch.float64, requires_grad=True)
    result = modified_loss(0.5 * theta @ A @ theta, [theta], 0.3)
    with torch.no_grad():
        g = A @ theta
        value, expected = 0.5 * theta @ g + 0.3 / 4 * g @ g, g + 0.15 * A @ g
    assert result.loss.item() == pytest.approx(value.item(), rel=1e-14)
    assert result.squared_norm.item() == pytest.approx((g @ g).item(), rel=1e-14)
    assert not result.squared_norm.requires_grad
    result.loss.backward()
    assert (theta.grad - expected).abs().max() < 1e-12 * expected.abs().max()


def test_gradient_scales_with_what_is_done_to_the_loss():
    theta = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    for scale in (1.0, 0.25):
        loss = modified_loss((theta**4).sum(), [theta], torch.tensor(0.1)).loss
        (found,) = torch.autograd.grad(scale * loss, theta)
        with torch.no_grad():
            expected = scale * (4 * theta**3 + 0.05 * 12 * theta**2 * 4 * theta**3)
        assert torch.allclose(found, expected, rtol=1e-7)


def test_penalty_of_a_smooth_network_is_its_difference_quotient():
    """WRN-10-1, GELU: ⟨∇(λ/4 ‖g‖²), u⟩ is the central difference of λ/4 ‖g‖² along random directions u."""
    network, (x, y), lam = wide_resnet("gelu"), images(2), 2.0
    parameters = list(network.parameters())
    exact = ExactPenalty()(network, CROSS_ENTROPY, x, y, lam)
    plain = gradient(CROSS_ENTROPY(network(x), y), network)
    penalty = [a - b for a, b in zip(gradient(exact.loss, network), plain, strict=True)]

    def value():
        g = gradient(CROSS_ENTROPY(network(x), y), network)
        return lam / 4 * sum(t.square().sum() for t in g).item()

    for seed in range(3):
        torch.manual_seed(seed)
        direction = [torch.randn_like(p) * p.abs().mean().clamp(min=0.01) for p in parameters]
        slope = sum((a * b).sum().item() for a, b in zip(penalty, direction, strict=True))
        values, h = [], 1e-4
        for sign in (1, -2, 1):
            values.append(value())
            with torch.no_grad():
                torch._foreach_add_(parameters, direction, alpha=sign * h)
        assert (values[1] - values[2]) / (2 * h) == pytest.approx(slope, rel=1e-6)


def unfolded_convolution(x, conv):
    """A convolution as a matrix product of its patches, so that no derivative of a convolution is used."""
    size = (x.shape[-1] + 2 * conv.padding[0] - conv.kernel_size[0]) // conv.stride[0] + 1
    patches = F.unfold(x, conv.kernel_size, padding=conv.padding, stride=conv.stride)
    out = torch.einsum("ok,bkp->bop", conv.weight.flatten(1), patches) + conv.bias[:, None]
    return out.reshape(len(x), -1, size, size)


def written_out(network, x):
    """The forward pass of a SkipInit WRN, from its description."""
    x = unfolded_convolution(x, network.stem)
    for block in network.blocks:
        activated = x.clamp(min=0)
        inner = unfolded_convolution(activated, block.conv1).clamp(min=0)
        shortcut = x if block.projection is None else unfolded_convolution(activated, block.projection)
        x = shortcut + block.scale * unfolded_convolution(inner, block.conv2)
    return x.clamp(min=0).mean((2, 3)) @ network.head.weight.T + network.head.bias


def test_gradient_equals_an_independent_double_backward():
    """WRN-10-1, ReLU: differentiating C + λ/4 Σ g² of a network written without convolutions."""
    network, (x, y), lam = wide_resnet(), images(4), 3.0
    cost = -written_out(network, x).log_softmax(1)[torch.arange(4), y].mean()
    g = torch.autograd.grad(cost, list(network.parameters()), create_graph=True)
    expected = gradient(cost + lam / 4 * sum((t**2).sum() for t in g), network)
    found = ExactPenalty()(network, CROSS_ENTROPY, x, y, lam)
    assert_close(gradient(found.loss, network), expected, 1e-10)
    assert found.loss.item() == pytest.approx(
        (cost + lam / 4 * sum((t**2).sum() for t in g)).item(), rel=1e-12
    )


def test_frozen_statistics_still_normalises_by_the_batch():
    layer = nn.BatchNorm1d(3)
    x = torch.randn(8, 3)
    with frozen_statistics(layer):
        inside = layer(x)
    assert layer.num_batches_tracked.item() == 0
    assert torch.equal(layer.running_mean, torch.zeros(3))
    assert torch.equal(inside, layer(x))


def test_bfloat16_autocast_is_near_float32():
    """Within a few roundings of bfloat16, relative to the length of the gradient."""
    network, (x, y) = wide_resnet().float(), images(8, torch.float32)
    expected = gradient(ExactPenalty()(network, CROSS_ENTROPY, x, y, 0.05).loss, network)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        found = ExactPenalty()(network, CROSS_ENTROPY, x, y, 0.05)
    assert_close(gradient(found.loss, network), expected, 0.1)


def test_channels_last_gives_the_same_numbers():
    network, (x, y) = wide_resnet(), images(4)
    expected = gradient(ExactPenalty()(network, CROSS_ENTROPY, x, y, 0.5).loss, network)
    network = network.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    assert_close(gradient(ExactPenalty()(network, CROSS_ENTROPY, x, y, 0.5).loss, network), expected, 1e-12)


def test_parameters_that_take_no_part():
    """Frozen ones and those that the loss does not depend on get no gradient and add nothing to the norm."""
    used = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    frozen = torch.tensor([3.0], dtype=torch.float64)
    unused = torch.tensor([4.0], dtype=torch.float64, requires_grad=True)
    result = modified_loss((used**2 * frozen).sum(), [used, frozen, unused], 1.0)
    result.loss.backward()
    assert result.squared_norm.item() == 144.0
    assert used.grad.item() == 12.0 + 0.5 * 6.0 * 12.0
    assert unused.grad is None
    with pytest.raises(UserError, match="parameters"):
        modified_loss((used**2).sum(), [frozen, unused], 1.0)


def test_a_parameter_on_which_the_cost_depends_linearly():
    """g does not depend on it, so it takes part in the norm and not in the penalty's gradient."""
    a, b = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (2.0, 5.0))
    result = modified_loss((a**2 + 3 * b).sum(), [a, b], 1.0)
    result.loss.backward()
    assert result.squared_norm.item() == 16.0 + 9.0
    assert a.grad.item() == 4.0 + 0.5 * 2.0 * 4.0
    assert b.grad.item() == 3.0


def test_modified_loss_refuses_a_second_derivative():
    """Its surrogate holds a copy of the gradient fixed, so a second derivative would lack terms."""
    theta = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = modified_loss((theta**3).sum(), [theta], 0.1).loss
    with pytest.raises(UserError, match="once"):
        torch.autograd.grad(loss, theta, create_graph=True)


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf])
def test_wrong_strengths_are_named(strength):
    theta = torch.ones(2, requires_grad=True)
    with pytest.raises(UserError, match="reg_strength"):
        modified_loss(theta.sum(), [theta], strength)


def test_zero_strength_is_the_cost_itself():
    theta = torch.ones(2, requires_grad=True)
    cost = theta.square().sum()
    assert modified_loss(cost, [theta], 0.0).loss is cost
    assert modified_loss(cost, [theta], 0).squared_norm is None


def test_networks_that_cannot_be_differentiated_are_refused():
    x, y = torch.ones(2, 3), torch.zeros(2).long()
    compiled = nn.Sequential(MLP([3, 3]))
    compiled[0].compile(backend="eager")
    for network in (torch.compile(MLP([3, 3]), backend="eager"), compiled):
        with pytest.raises(UserError, match=r"torch\.compile"):
            ExactPenalty()(network, CROSS_ENTROPY, x, y, 0.1)
    with pytest.raises(UserError, match="SyncBatchNorm"):
        ExactPenalty()(nn.Sequential(MLP([3, 3]), nn.SyncBatchNorm(3)), CROSS_ENTROPY, x, y, 0.1)
