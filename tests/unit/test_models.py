"""The networks: published parameter counts, shapes, what they start from, and what they refuse."""

import copy
import math

import pytest
import torch
from torch import nn

from sgdlit.errors import UserError
from sgdlit.models import MLP, DeepLinear, WideResNet


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_are_the_published_ones():
    """Smith et al. 2021, appendix: WRN-10-1 with SkipInit and biases, and the Fashion-MNIST MLP."""
    assert count(WideResNet()) == 77_709
    with torch.device("meta"):
        assert count(MLP([784, 4096, 4096, 4096, 10])) == 36_818_954


def test_normalized_wide_resnet_count():
    """WRN-16-4 with BatchNorm, counted by hand from its table: convolutions without biases."""
    stem = 9 * 3 * 16

    def stage(a, b, projected):
        return 9 * a * b + 9 * b * b + 2 * a + 2 * b + projected * a * b + 18 * b * b + 4 * b

    expected = stem + stage(16, 64, 1) + stage(64, 128, 1) + stage(128, 256, 1) + 2 * 256 + 256 * 10 + 10
    assert count(WideResNet(16, 4, normalization="batchnorm")) == expected
    assert count(WideResNet(16, 4, normalization="groupnorm")) == expected


@pytest.mark.parametrize("normalization", ["skipinit", "batchnorm", "groupnorm"])
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 28)])
def test_wide_resnet_shapes(normalization, channels, size):
    network = WideResNet(in_channels=channels, image_size=size, normalization=normalization)
    assert network(torch.randn(2, channels, size, size)).shape == (2, 10)


def test_skipinit_starts_as_the_shortcut_path():
    """With every scalar at 0 the residual branches do nothing, whatever their weights."""
    network = WideResNet(16, 1)
    x = torch.randn(2, 3, 32, 32)
    before = network(x)
    for block in network.blocks:
        nn.init.normal_(block.conv2.weight)
        nn.init.normal_(block.conv1.bias)
    assert torch.equal(network(x), before)


def test_initial_weights_have_the_stated_variance():
    torch.manual_seed(0)
    conv = WideResNet(10, 8).blocks[2].conv2.weight
    assert conv.std().item() == pytest.approx(math.sqrt(2 / (9 * 512)), rel=0.01)
    assert MLP([784, 1000, 10]).layers[1].weight.std().item() == pytest.approx(math.sqrt(2 / 784), rel=0.01)
    tanh = MLP([784, 1000, 10], activation="tanh")
    assert tanh.layers[1].weight.std().item() == pytest.approx(math.sqrt(1 / 784), rel=0.01)
    assert DeepLinear([256, 256]).weights[0].std().item() == pytest.approx(1 / 16, rel=0.02)
    assert DeepLinear([256, 64], "scaled", 0.1).weights[0].std().item() == pytest.approx(0.1, rel=0.02)


NETWORKS = [
    (lambda: WideResNet(), (3, 32, 32)),
    (lambda: WideResNet(normalization="batchnorm"), (3, 32, 32)),
    (lambda: MLP([12, 8, 3]), (12,)),
    (lambda: DeepLinear([5, 4, 3]), (5,)),
]


@pytest.mark.parametrize(("make", "shape"), NETWORKS)
def test_reset_parameters_is_decided_by_the_global_generator(make, shape):
    torch.manual_seed(1)
    first = make()
    torch.manual_seed(1)
    second = make()
    third = copy.deepcopy(first)
    for parameter in third.parameters():
        nn.init.normal_(parameter)
    torch.manual_seed(1)
    third.reset_parameters()
    for a, b, c in zip(first.parameters(), second.parameters(), third.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


@pytest.mark.parametrize(("make", "shape"), NETWORKS)
def test_networks_work_as_functions_of_their_parameters(make, shape):
    """torch.func, vmap over an ensemble of parameters included, agrees with the modules."""
    networks = [make().eval().double() for _ in range(2)]
    x = torch.randn(3, *shape, dtype=torch.float64)
    parameters, buffers = torch.func.stack_module_state(networks)

    def call(p, b):
        return torch.func.functional_call(networks[0], (p, b), (x,))

    together = torch.vmap(call)(parameters, buffers)
    for member, network in zip(together, networks, strict=True):
        assert torch.allclose(member, network(x), rtol=0, atol=1e-12)


def test_mlp_is_the_written_out_product():
    network = MLP([4, 3, 2]).double()
    x = torch.randn(5, 2, 2, dtype=torch.float64)
    first, second = network.layers[1], network.layers[3]
    expected = (x.reshape(5, 4) @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias
    assert torch.allclose(network(x), expected, rtol=0, atol=1e-14)
    assert count(MLP([4, 3, 2], bias=False)) == 18


def test_deep_linear_is_its_product():
    network = DeepLinear([5, 7, 4, 3]).double()
    x = torch.randn(6, 5, dtype=torch.float64)
    assert network.product.shape == (3, 5)
    assert torch.allclose(network(x), x @ network.product.T, rtol=0, atol=1e-14)


def test_channels_last_and_autocast():
    torch.manual_seed(0)
    network = WideResNet()
    x = torch.randn(4, 3, 32, 32)
    expected = network(x)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    assert torch.allclose(last(x.contiguous(memory_format=torch.channels_last)), expected, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        assert torch.allclose(network(x).float(), expected, atol=0.1)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: WideResNet(depth=11), "depth: 11"),
        (lambda: WideResNet(depth=4), "depth: 4"),
        (lambda: WideResNet(width=0), "width: 0"),
        (lambda: WideResNet(image_size=64), "image_size: 64"),
        (lambda: WideResNet(normalization="layernorm"), "normalization: 'layernorm'"),
        (lambda: WideResNet(activation="swish"), "activation: 'swish'"),
        (lambda: WideResNet()(torch.zeros(1, 1, 28, 28)), r"\(1, 28, 28\)"),
        (lambda: MLP([3]), r"widths: \[3\]"),
        (lambda: MLP([3, 0]), r"widths: \[3, 0\]"),
        (lambda: DeepLinear([3, 2], init="orthogonal"), "init: 'orthogonal'"),
        (lambda: DeepLinear([3, 2], init_scale=0.0), "init_scale: 0"),
    ],
)
def test_wrong_arguments_are_named(make, named):
    with pytest.raises(UserError, match=named):
        make()
