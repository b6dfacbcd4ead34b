"""Parts of the list of papers: tokens, transformer, block quadratic, embedding, freezing, column factors."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sgdlit.data.zipf_tokens import ZipfTokens
from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP
from sgdlit.models.block_quadratic import BlockQuadratic, rotated
from sgdlit.models.embedding import EmbeddingMLP
from sgdlit.models.frozen import Frozen
from sgdlit.models.tiny_transformer import TinyTransformer
from sgdlit.objectives import loss_by_name
from sgdlit.objectives.coordinate_clip import clip_coordinates
from sgdlit.theory.gradient_scaling import AdamMoments, column_factors, projected_factors, tensor_factor

# Tokens


def test_tokens_have_the_frequencies_and_successors_of_the_docstring():
    data = ZipfTokens(vocabulary=20, length=8, predictability=0.6, steps=1, seed=1)
    inputs, targets = data.draw("train", torch.arange(20_000))
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    first = torch.bincount(inputs[:, 0], minlength=20).double() / 20_000
    error = (data.frequencies * (1 - data.frequencies) / 20_000).sqrt()
    assert ((first - data.frequencies).abs() < 5 * error).all()
    torch.testing.assert_close(data.frequencies[3] / data.frequencies[0], torch.tensor(0.25).double())
    assert torch.equal(data.successor.sort().values, torch.arange(20))
    follows = (targets == data.successor[inputs]).double()
    by_chance = 0.4 * data.frequencies[data.successor[inputs]]
    apart = (follows - 0.6 - by_chance).flatten()
    assert abs(apart.mean()) < 5 * apart.std() / math.sqrt(apart.numel())


def test_tokens_that_follow_always_and_never():
    always = ZipfTokens(vocabulary=20, length=8, predictability=1.0, steps=1)
    inputs, targets = always.draw("train", torch.arange(100))
    assert torch.equal(targets, always.successor[inputs])
    never = ZipfTokens(vocabulary=20, length=8, predictability=0.0, steps=1)
    _, targets = never.draw("train", torch.arange(20_000))
    last = torch.bincount(targets[:, -1], minlength=20).double() / 20_000
    assert ((last - never.frequencies).abs() < 5 * (never.frequencies / 20_000).sqrt()).all()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"vocabulary": 1}, r"data\.vocabulary: 1"),
        ({"length": 0}, r"data\.length: 0"),
        ({"predictability": 1.5}, r"data\.predictability: 1\.5"),
    ],
)
def test_tokens_that_cannot_be(given, named):
    with pytest.raises(UserError, match=named):
        ZipfTokens(steps=1, **given)


# Transformer


def torchs_own(network: TinyTransformer, heads: int) -> nn.TransformerEncoderLayer:
    """The same block as torch's layer."""
    block, width = network.blocks[0], network.token.shape[1]
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    pairs = [
        (layer.self_attn.in_proj_weight, block.attention.project.weight),
        (layer.self_attn.in_proj_bias, block.attention.project.bias),
        (layer.self_attn.out_proj.weight, block.attention.output.weight),
        (layer.self_attn.out_proj.bias, block.attention.output.bias),
        (layer.linear1.weight, block.widen.weight),
        (layer.linear1.bias, block.widen.bias),
        (layer.linear2.weight, block.narrow.weight),
        (layer.linear2.bias, block.narrow.bias),
        (layer.norm1.weight, block.norm1.weight),
        (layer.norm1.bias, block.norm1.bias),
        (layer.norm2.weight, block.norm2.weight),
        (layer.norm2.bias, block.norm2.bias),
    ]
    with torch.no_grad():
        for own, other in pairs:
            own.copy_(other)
    return layer


def test_transformer_against_torchs_own_layer():
    torch.manual_seed(0)
    network = TinyTransformer(vocabulary=11, length=6, width=8, heads=2).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    tokens = torch.randint(11, (3, 6))
    layer = torchs_own(network, 2)
    x = F.embedding(tokens, network.token) + network.position
    x = layer(x, src_mask=nn.Transformer.generate_square_subsequent_mask(6).double(), is_causal=True)
    expected = F.layer_norm(x, (8,), network.norm.weight, network.norm.bias) @ network.head.weight.T
    torch.testing.assert_close(network(tokens), expected, rtol=1e-10, atol=1e-12)


def test_no_output_depends_on_a_later_token():
    torch.manual_seed(0)
    network = TinyTransformer(vocabulary=11, length=6, width=8, heads=2, blocks=2)
    tokens = torch.randint(11, (1, 6))
    changed = tokens.clone()
    changed[0, 4] = (tokens[0, 4] + 1) % 11
    before, after = network(tokens), network(changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])
    assert torch.allclose(network(tokens[:, :3]), before[:, :3], atol=1e-6)


def test_transformer_starts_as_stated():
    torch.manual_seed(0)
    network = TinyTransformer()
    stds = {name: float(p.detach().std()) for name, p in network.named_parameters() if p.dim() == 2}
    assert stds["token"] == pytest.approx(0.1, rel=0.02)
    assert stds["head.weight"] == pytest.approx(32**-0.5, rel=0.02)
    assert stds["blocks.0.narrow.weight"] == pytest.approx(128**-0.5, rel=0.05)
    assert sum(p.numel() for p in network.parameters()) == 512 * 64 + 16 * 32 + 12 * 32**2 + 13 * 32 + 64


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TinyTransformer(width=0), "width: 0"),
        (lambda: TinyTransformer(width=32, heads=3), "heads: 3 .* 32"),
        (lambda: TinyTransformer(length=4)(torch.zeros(1, 5, dtype=torch.int64)), "5 tokens .* 4"),
    ],
)
def test_transformers_that_cannot_be(make, named):
    with pytest.raises(UserError, match=named):
        make()


def test_next_token_is_the_mean_over_places():
    outputs = torch.randn(3, 4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 6, 2, 3], [1, 1, 1, 1], [5, 4, 3, 2]])
    loss = loss_by_name("next_token")
    logs = outputs.log_softmax(-1)
    expected = [-sum(logs[i, j, targets[i, j]] for j in range(4)) / 4 for i in range(3)]
    torch.testing.assert_close(loss.per_example(outputs, targets), torch.stack(expected))
    torch.testing.assert_close(loss(outputs, targets), torch.stack(expected).mean())
    loss.check_targets(outputs, targets)
    for wrong, named in ((targets[:, :3], r"\(3, 3\)"), (targets + 1, "label 7"), (targets.float(), "float")):
        with pytest.raises(UserError, match=named):
            loss.check_targets(outputs, wrong)


# Networks of two papers


def test_block_quadratic_has_its_spectrum_and_cost():
    torch.manual_seed(0)
    network = BlockQuadratic([[1.0, 2.0, 3.0], [10.0], [4.0, 5.0]]).double()
    for hessian, block in zip(network.hessians, network.blocks, strict=True):
        torch.testing.assert_close(
            torch.linalg.eigvalsh(hessian), torch.tensor(block).double(), rtol=1e-5, atol=0
        )
    whole = torch.block_diag(*network.hessians)
    theta = torch.cat([p.detach() for p in network.thetas])
    noise = torch.randn(4, 6, dtype=torch.float64)
    expected = 0.5 * theta @ whole @ theta + noise @ theta
    torch.testing.assert_close(network(noise).squeeze(1), expected)
    with pytest.raises(UserError, match=r"noise of 5 numbers does not fit 6"):
        network(torch.zeros(1, 5).double())
    with pytest.raises(UserError, match=r"blocks: \[\[1.0, -1.0\]\]"):
        BlockQuadratic([[1.0, -1.0]])


def test_rotations_are_uniform():
    """E Q₁₁² = 1/n and E Q₁₁⁴ = 3/(n(n + 2)) of a uniformly distributed rotation; E H = tr(λ)/n·I."""
    generator = torch.Generator().manual_seed(0)
    normals = torch.randn(20_000, 3, 3, dtype=torch.float64, generator=generator)
    hessians = rotated(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(20_000, 3), normals)
    first = hessians[:, 0, 0]  # Q₁₁²
    assert abs(first.mean() - 1 / 3) < 5 * first.std() / 20_000**0.5
    assert abs((first**2).mean() - 3 / 15) < 5 * (first**2).std() / 20_000**0.5
    off = hessians[:, 0, 1]
    assert abs(off.mean()) < 5 * off.std() / 20_000**0.5


def test_the_input_scale_leaves_the_function_and_multiplies_the_gradient():
    networks = []
    for scale in (1.0, 30.0):
        torch.manual_seed(3)
        networks.append(EmbeddingMLP(5, 6, 7, 3, input_scale=scale).double())
    x = torch.randn(4, 5, dtype=torch.float64)
    one, large = (network(x) for network in networks)
    torch.testing.assert_close(one, large, rtol=1e-6, atol=1e-7)  # E is drawn in float32
    grads = [
        torch.autograd.grad(y.square().sum(), list(n.parameters()))
        for y, n in zip((one, large), networks, strict=True)
    ]
    torch.testing.assert_close(30 * grads[0][0], grads[1][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grads[0][1], grads[1][1], rtol=1e-5, atol=1e-6)


def test_frozen_by_name():
    network = Frozen(EmbeddingMLP(5, 6, 7, 3), ["embed"])
    assert [n for n, p in network.named_parameters() if not p.requires_grad] == ["network.embed.weight"]
    layers = Frozen(MLP([4, 5, 3]), ["layers.1", "layers.3.bias"])
    trained = [n for n, p in layers.named_parameters() if p.requires_grad]
    assert trained == ["network.layers.3.weight"]
    with pytest.raises(UserError, match=r"names: 'embd' .* did you mean embed"):
        Frozen(EmbeddingMLP(5, 6, 7, 3), ["embd"])
    with pytest.raises(UserError, match="leave no parameter"):
        Frozen(MLP([4, 3]), ["layers"])


# Gradients


def test_clipping_changes_the_largest_coordinates_only():
    g = torch.arange(-50.0, 51.0)
    clipped = clip_coordinates(g, 0.1)
    limit = g.abs().quantile(0.9)
    assert float(clipped.abs().max()) == limit
    inside = g.abs() <= limit
    assert torch.equal(clipped[inside], g[inside])
    assert torch.equal(clipped.sign(), g.sign())
    assert float((~inside).double().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(clip_coordinates(g, 0.0), g)


def test_moments_are_torchs_adam():
    generator = np.random.default_rng(0)
    weights = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    optimizer, moments = torch.optim.Adam([weights], lr=0.1), AdamMoments()
    expected = np.zeros((4, 3))
    for _ in range(5):
        g = generator.standard_normal((4, 3))
        weights.grad = torch.from_numpy(g)
        optimizer.step()
        expected -= 0.1 * moments.adapted(g)
    np.testing.assert_allclose(weights.detach().numpy(), expected, rtol=1e-12)


def test_factors_of_a_projection_that_is_the_identity_are_adams_own():
    generator = np.random.default_rng(1)
    gradients = [generator.standard_normal((6, 4)) for _ in range(7)]
    moments = AdamMoments()
    adapted = [moments.adapted(g) for g in gradients][-1]
    np.testing.assert_allclose(
        projected_factors(gradients, np.eye(6)), column_factors(adapted, gradients[-1])
    )
    expected = np.linalg.norm(adapted) / np.linalg.norm(gradients[-1])
    np.testing.assert_allclose(tensor_factor(adapted, gradients[-1]), [expected])
    assert (column_factors(np.zeros((6, 4)), np.zeros((6, 4))) == 0).all()
