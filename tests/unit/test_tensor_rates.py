"""Rates per tensor: against momentum SGD written out, torch's SGD with groups, and the identity of g-SNR."""

import copy

import pytest
import torch
from torch import nn

from sgdlit.algorithms.tensor_rates import TensorRates, gradient_snr
from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP


def network() -> nn.Module:
    torch.manual_seed(0)
    return MLP([6, 7, 3]).double()


def gradients(model: nn.Module, step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in model.parameters()]


def take(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        for p, g in zip(model.parameters(), gradients(model, step), strict=True):
            p.grad = g
        optimizer.step()


def test_g_snr_is_the_identity_of_size_and_mean():
    g = torch.randn(40, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.3
    n, mean, variance = g.numel(), g.mean(), g.var(correction=0)
    expected = ((n - 1) * (1 + mean**2 / variance)).sqrt()
    torch.testing.assert_close(gradient_snr(g, eps=0.0), expected, rtol=1e-12, atol=0)
    assert gradient_snr(torch.tensor([3.0])) == 1


@pytest.mark.parametrize("rates", ["g_snr", "sqrt_numel", [1.0, 2.0, 0.5, 3.0]])
def test_the_update_written_out(rates):
    model = network()
    expected = [p.detach().clone() for p in model.parameters()]
    means = [torch.zeros_like(p) for p in expected]
    take(
        model, TensorRates(model.parameters(), lr=0.1, momentum=0.8, weight_decay=0.2, rates=rates), range(4)
    )
    first = gradients(model, 0)
    if rates == "g_snr":
        factors = [float(g.norm() / (g.std() + 1e-8)) for g in first]
    else:
        factors = [g.numel() ** 0.5 for g in first] if rates == "sqrt_numel" else rates
    for step in range(4):
        for p, m, g, s in zip(expected, means, gradients(model, step), factors, strict=True):
            m.mul_(0.8).add_(g, alpha=0.2)
            p.copy_(p * (1 - 0.1 * 0.2) - 0.1 * s * m)
    for p, q in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=1e-12, atol=1e-14)


def test_numbers_for_each_tensor_are_torchs_groups():
    one, other, rates = network(), network(), [0.3, 1.0, 2.0, 0.1]
    take(one, TensorRates(one.parameters(), lr=0.1, momentum=0.9, rates=rates), range(5))
    groups = [{"params": [p], "lr": 0.1 * 0.1 * s} for p, s in zip(other.parameters(), rates, strict=True)]
    take(other, torch.optim.SGD(groups, momentum=0.9), range(5))
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


def test_a_restored_state_goes_on_with_the_rates_of_the_first_gradient():
    straight = network()
    take(straight, TensorRates(straight.parameters(), lr=0.1), range(6))
    model = network()
    before = TensorRates(model.parameters(), lr=0.1)
    take(model, before, range(3))
    after = TensorRates(model.parameters(), lr=0.1)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    take(model, after, range(3, 6))
    for p, q in zip(model.parameters(), straight.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"rates": [1.0]}, r"optimizer\.rates: 1 numbers for 4"),
        ({"rates": "numel"}, r"optimizer\.rates: numel"),
        ({"momentum": 1.0}, r"optimizer\.momentum: 1\.0"),
        ({"lr": -1.0}, r"optimizer\.lr: -1\.0"),
    ],
)
def test_what_is_refused(given, named):
    with pytest.raises(UserError, match=named):
        TensorRates(network().parameters(), **given)
