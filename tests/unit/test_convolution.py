"""The second derivative of convolutions, against differences and against one without convolutions."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from sgdlit.models import WideResNet
from sgdlit.objectives import convolution, modified_loss

CASES = {
    "3x3": (F.conv2d, (2, 3, 5, 5), (4, 3, 3, 3), {"padding": 1}),
    "stride": (F.conv2d, (2, 3, 6, 6), (4, 3, 3, 3), {"padding": 1, "stride": 2}),
    "1x1 stride": (F.conv2d, (2, 3, 5, 5), (4, 3, 1, 1), {"stride": 2}),
    "groups": (F.conv2d, (2, 4, 5, 5), (6, 2, 3, 3), {"groups": 2}),
    "dilation": (F.conv2d, (1, 2, 6, 6), (2, 2, 2, 2), {"dilation": 2}),
    "1d": (F.conv1d, (2, 3, 6), (4, 3, 3), {"padding": 1}),
    "transposed": (F.conv_transpose2d, (2, 3, 4, 4), (3, 2, 3, 3), {"stride": 2, "output_padding": 1}),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_second_derivative_is_its_difference_quotient(case, bias):
    """And a third derivative exists, since the formula is written in differentiable operations."""
    function, input_shape, weight_shape, options = CASES[case]
    torch.manual_seed(0)
    x = torch.randn(input_shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(weight_shape, dtype=torch.float64, requires_grad=True)
    out_channels = weight_shape[1] if case == "transposed" else weight_shape[0]
    b = torch.randn(out_channels, dtype=torch.float64, requires_grad=True) if bias else None

    def smooth(x, weight, b):
        return function(x, weight, b, **options).tanh()

    assert gradcheck(smooth, (x, weight, b))
    assert gradgradcheck(smooth, (x, weight, b))


@pytest.mark.parametrize("needed", ["x", "weight"])
def test_only_one_argument_requires_a_gradient(needed):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=needed == "x")
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=needed == "weight")
    assert gradgradcheck(lambda x, w: F.conv2d(x, w, padding=1).tanh(), (x, weight))


def test_it_is_what_double_backward_runs(monkeypatch):
    """One call for each of the nine convolutions of WRN-10-1."""
    assert convolution.register() is convolution.register()
    calls = []
    original = convolution.gradient_at_output
    monkeypatch.setattr(
        convolution, "gradient_at_output", lambda *args: (calls.append(1), original(*args))[1]
    )
    network = WideResNet()
    cost = network(torch.randn(2, 3, 32, 32)).square().mean()
    modified_loss(cost, network.parameters(), 0.1).loss.backward()
    assert len(calls) == 9


def test_hessian_vector_products_under_vmap():
    """torch.func over an ensemble gives what each member gives alone."""
    torch.manual_seed(0)
    x = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    weights, vectors = (torch.randn(4, 2, 2, 3, 3, dtype=torch.float64) for _ in range(2))

    def cost(weight):
        return F.conv2d(x, weight, padding=1).tanh().square().sum()

    def product(weight, vector):
        return torch.func.grad(lambda w: (torch.func.grad(cost)(w) * vector).sum())(weight)

    together = torch.vmap(product)(weights, vectors)
    for member, weight, vector in zip(together, weights, vectors, strict=True):
        weight = weight.clone().requires_grad_()
        (g,) = torch.autograd.grad(cost(weight), weight, create_graph=True)
        (alone,) = torch.autograd.grad(g, weight, vector)
        assert torch.allclose(member, alone, rtol=0, atol=1e-10)
