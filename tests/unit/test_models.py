"""The networks: published parameter counts, shapes, what they start from, and what they refuse."""

import copy
import math

import pytest
import torch
from torch import nn

from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP, DeepLinear, SimpleCNN, WideResNet
from sgdlit.models.block_quadratic import BlockQuadratic
from sgdlit.models.embedding import EmbeddingMLP
from sgdlit.models.groupsort import GroupSortMLP, orthonormal, sort_pairs
from sgdlit.models.mean_field import MeanField
from sgdlit.models.perceptron import Perceptron


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_are_the_published_ones():
    """Smith et al. 2021, appendix: WRN-10-1 with SkipInit and biases, and the Fashion-MNIST MLP."""
    assert count(WideResNet()) == 77_709
    with torch.device("meta"):
        assert count(MLP([784, 4096, 4096, 4096, 10])) == 36_818_954


def test_simple_cnn_and_resnet_8_counts():
    """By hand: 5x5 convolutions on 28x28x1, two halvings; and 7 convolutions, two projections, one layer."""
    assert count(SimpleCNN()) == (25 * 32 + 32) + (25 * 32 * 64 + 64) + (49 * 64 + 1) * 1024 + 1025 * 10
    assert count(SimpleCNN([2, 3], 5, 7, 3, 8)) == (75 * 2 + 2) + (50 * 3 + 3) + (4 * 3 + 1) * 5 + 6 * 7
    convolutions = [(3, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    expected = sum(9 * a * b + b for a, b in convolutions) + 17 * 32 + 33 * 64 + 65 * 10
    assert count(WideResNet(10, 1, normalization="none")) == expected


def test_simple_cnn_is_its_layers_written_out():
    network = SimpleCNN([3, 4], 6, image_size=8).double()
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    first, second, hidden, last = (layer for layer in network.layers if hasattr(layer, "weight"))
    nn.init.normal_(first.bias)
    h = x
    for conv in (first, second):
        patches = nn.functional.unfold(h, 5, padding=2).transpose(1, 2)  # [2, pixels, channels·25]
        h = (patches @ conv.weight.flatten(1).T + conv.bias).clamp(min=0).transpose(1, 2)
        side = math.isqrt(h.shape[2])
        h = h.reshape(2, -1, side // 2, 2, side // 2, 2).amax((3, 5))
    h = (h.flatten(1) @ hidden.weight.T + hidden.bias).clamp(min=0)
    torch.testing.assert_close(network(x), h @ last.weight.T + last.bias, rtol=0, atol=1e-12)


def test_without_normalization_a_block_is_the_sum_of_both_paths():
    block = WideResNet(normalization="none").double().blocks[0]
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(block(x), x + block.conv2(block.conv1(x.relu()).relu()), rtol=0, atol=1e-12)


def test_normalized_wide_resnet_count():
    """WRN-16-4 with BatchNorm, counted by hand from its table: convolutions without biases."""
    stem = 9 * 3 * 16

    def stage(a, b, projected):
        return 9 * a * b + 9 * b * b + 2 * a + 2 * b + projected * a * b + 18 * b * b + 4 * b

    expected = stem + stage(16, 64, 1) + stage(64, 128, 1) + stage(128, 256, 1) + 2 * 256 + 256 * 10 + 10
    assert count(WideResNet(16, 4, normalization="batchnorm")) == expected
    assert count(WideResNet(16, 4, normalization="groupnorm")) == expected


@pytest.mark.parametrize("normalization", ["skipinit", "batchnorm", "groupnorm", "none"])
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
    cnn = [layer.weight.std().item() for layer in SimpleCNN().layers if hasattr(layer, "weight")]
    assert cnn[1:] == pytest.approx([math.sqrt(g / n) for g, n in ((2, 800), (2, 3136), (1, 1024))], rel=0.02)
    tanh = MLP([784, 1000, 10], activation="tanh")
    assert tanh.layers[1].weight.std().item() == pytest.approx(math.sqrt(1 / 784), rel=0.01)
    assert DeepLinear([256, 256]).weights[0].std().item() == pytest.approx(1 / 16, rel=0.02)
    assert DeepLinear([256, 64], "scaled", 0.1).weights[0].std().item() == pytest.approx(0.1, rel=0.02)


NETWORKS = [
    (lambda: WideResNet(), (3, 32, 32)),
    (lambda: WideResNet(normalization="batchnorm"), (3, 32, 32)),
    (lambda: WideResNet(normalization="none"), (3, 32, 32)),
    (lambda: SimpleCNN([2, 3], 4, image_size=8), (1, 8, 8)),
    (lambda: SimpleCNN([2, 3], 4, image_size=14), (1, 14, 14)),
    (lambda: MLP([12, 8, 3]), (12,)),
    (lambda: DeepLinear([5, 4, 3]), (5,)),
    (lambda: EmbeddingMLP(5, 6, 7, 3, input_scale=4.0), (5,)),
    (lambda: BlockQuadratic([[1.0, 2.0], [3.0]]), (3,)),
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


def test_mean_field_is_the_written_out_mean():
    network = MeanField(4, 6, bias_scale=0.5).double()
    x = torch.randn(5, 2, 2, dtype=torch.float64)
    units = [(x.flatten(1) @ w + b).clamp(min=0) * a for w, b, a in zip(*network.parameters(), strict=True)]
    torch.testing.assert_close(network(x).flatten(), sum(units) / 6, rtol=0, atol=1e-14)


def test_starts_of_mean_field_and_perceptron():
    """On the sphere exactly; normal ones within 5 standard errors."""
    torch.manual_seed(0)
    network = MeanField(5, 40_000, scale=1.5, bias_scale=0.5)
    for p, std in ((network.w, 1.5 / math.sqrt(5)), (network.a, 1.5), (network.b, 0.5)):
        assert p.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * p.numel()))
    sphere = MeanField(5, 1000, start="sphere", scale=0.3, bias=False)
    torch.testing.assert_close(sphere.w.norm(dim=1), torch.full((1000,), 0.3))
    assert sphere.a.unique().tolist() == pytest.approx([-0.3, 0.3])
    assert abs((sphere.a > 0).double().mean() - 0.5) < 5 * 0.5 / math.sqrt(1000)
    perceptron = Perceptron(4)
    assert not perceptron.w.any()
    with torch.no_grad():
        perceptron.w.copy_(torch.tensor([1.0, 2.0, 0.0, -1.0]))
    assert perceptron(torch.ones(2, 4)).tolist() == [[1.0], [1.0]]


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
        (lambda: SimpleCNN([3]), r"channels: \[3\]"),
        (lambda: SimpleCNN(hidden=0), "hidden: 0"),
        (lambda: SimpleCNN(image_size=3), "image_size: 3"),
        (lambda: SimpleCNN()(torch.zeros(1, 3, 32, 32)), r"\(3, 32, 32\)"),
        (lambda: MLP([3]), r"widths: \[3\]"),
        (lambda: MLP([3, 0]), r"widths: \[3, 0\]"),
        (lambda: MeanField(3, 0), "neurons: 0"),
        (lambda: MeanField(3, 2, start="cube"), "start: 'cube'"),
        (lambda: MeanField(3, 2, scale=0.0), "scale: 0"),
        (lambda: MeanField(3, 2, bias_scale=0.1, bias=False), "bias_scale: 0.1"),
        (lambda: Perceptron(0), "d: 0"),
        (lambda: DeepLinear([3, 2], init="orthogonal"), "init: 'orthogonal'"),
        (lambda: DeepLinear([3, 2], init_scale=0.0), "init_scale: 0"),
    ],
)
def test_wrong_arguments_are_named(make, named):
    with pytest.raises(UserError, match=named):
        make()


# GroupSort


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (1, 4)])
def test_orthonormal_is_the_polar_factor(shape):
    """Against UVᵀ of the singular value decomposition, for singular values between 0.2 and 3."""
    generator = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(
        torch.randn(shape, generator=generator, dtype=torch.float64), full_matrices=False
    )
    values = torch.linspace(0.2, 3, min(shape), dtype=torch.float64)
    torch.testing.assert_close(orthonormal(u * values @ v), u @ v, rtol=0, atol=1e-13)


def test_sorted_pairs():
    x = torch.tensor([[1.0, 2.0, 5.0, -1.0], [0.0, 0.0, -3.0, 4.0]])
    assert sort_pairs(x).tolist() == [[2.0, 1.0, 5.0, -1.0], [0.0, 0.0, 4.0, -3.0]]


def test_a_groupsort_network_passes_gradients_without_loss():
    """‖∂f/∂x‖ = 1 for a single output, also after the parameters have moved."""
    torch.manual_seed(0)
    network = GroupSortMLP([8, 8, 6, 6, 1]).double()
    for moved in (False, True):
        if moved:
            with torch.no_grad():
                for layer in network.layers:
                    layer.weight += 0.2 * torch.randn_like(layer.weight)
        x = torch.randn(20, 8, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(network(x).sum(), x)
        torch.testing.assert_close(
            gradient.norm(dim=1), torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-9
        )


def test_groupsort_needs_pairs():
    with pytest.raises(UserError, match="layer of 5 has no pairs"):
        GroupSortMLP([4, 5, 1])
