"""The loops that the studies of papers write out for speed, against autograd and against closed forms."""

import numpy as np
import pytest
import torch

from sgdlit.algorithms.transforms import PerExampleClip
from sgdlit.models.groupsort import sort_pairs
from sgdlit.papers.heo2020 import tangential
from sgdlit.papers.support import noisy_labels
from sgdlit.papers.support.clipping_bias import clipped_root, stationary_mean
from sgdlit.papers.support.layer_gradients import layer_gradients
from sgdlit.papers.support.shuffled_batch_norm import hard_classification, least_risk
from sgdlit.papers.support.two_classes import Networks
from sgdlit.papers.support.visits import distances, problem
from sgdlit.theory.batch_norm import in_batches, is_separable, normalised


def test_two_class_networks_have_the_gradients_of_autograd():
    rng = [np.random.default_rng(seed) for seed in (0, 1)]
    networks = Networks.drawn(rng, hidden=5, inputs=3)
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    y = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0], dtype=torch.float64).expand(2, 7)
    examples = networks.examples(x, y)
    weights = torch.rand(2, 7, dtype=torch.float64)
    leaves = Networks(*(p.clone().requires_grad_() for p in networks))
    losses = leaves.losses(x, y)
    torch.testing.assert_close(examples.losses, losses.detach())
    w, a, b = torch.autograd.grad((weights * losses).sum(), leaves)
    expected = torch.cat([w.flatten(1), a, b.unsqueeze(1)], 1)
    torch.testing.assert_close(examples.weighted(weights), expected)
    torch.testing.assert_close((weights.unsqueeze(2) * examples.each()).sum(1), expected)
    moved = networks.moved(expected, 0.1)
    torch.testing.assert_close(moved.w, networks.w - 0.1 * w)


def test_stacked_networks_take_the_step_of_autograd():
    setting = noisy_labels.Setting(4, 6, 0.4, 2, 0.1, 1, 1, 0, seeds=2)
    stack = noisy_labels._Stack(setting, 5)
    x, y = torch.randn(6, 3, 5), torch.randint(10, (6, 3))
    weights = torch.rand(6, 3)
    leaves = [t.clone().requires_grad_() for t in (*stack.weights, *stack.biases)]
    h = torch.relu(x @ leaves[0].mT + leaves[2])
    logits = h @ leaves[1].mT + leaves[3]
    each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").reshape(
        6, 3
    )
    gradients = torch.autograd.grad((weights * each).sum(), leaves)
    hidden, p = stack.forward(x)
    stack.move(x, hidden, (p - torch.nn.functional.one_hot(y, 10)) * weights.unsqueeze(2), 0.1)
    for moved, leaf, gradient in zip((*stack.weights, *stack.biases), leaves, gradients, strict=True):
        torch.testing.assert_close(moved, leaf.detach() - 0.1 * gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", [sort_pairs, torch.relu])
def test_layer_gradients_are_those_by_the_weights(activation):
    weights = [torch.randn(4, 4, dtype=torch.float64) for _ in range(3)] + [
        torch.randn(1, 4, dtype=torch.float64)
    ]
    x = torch.randn(5, 4, dtype=torch.float64)
    found = torch.stack(layer_gradients(weights, activation, x))
    for i in range(5):
        leaves = [w.clone().requires_grad_() for w in weights]
        h = x[i]
        for w in leaves[:-1]:
            h = activation(w @ h)
        gradients = torch.autograd.grad((leaves[-1] @ h).sum(), leaves[:-1])
        torch.testing.assert_close(found[:, i], torch.stack([g.norm() for g in gradients]))


def test_sgd_with_replacement_has_its_exact_stationary_covariance():
    """vec E(w − w_*)(w − w_*)ᵀ of the linear recursion, which 200 runs know to a few percent."""
    lr, problems = 0.02, [problem(seed, 20, 2) for seed in (0, 1)]
    found = distances(problems, lr, runs=200)[0]
    for k, (a, b, best) in enumerate(problems):
        eye = np.eye(2)
        steps = [eye - lr * np.outer(x, x) for x in a]
        operator = np.mean([np.kron(s, s) for s in steps], 0)
        noise = lr * a * (b - a @ best)[:, None]
        drift = np.mean([np.kron(n, n) for n in noise], 0)
        mixed = np.mean(
            [np.kron(s, n[:, None]) + np.kron(n[:, None], s) for s, n in zip(steps, noise, strict=True)], 0
        )
        mean = np.linalg.solve(eye - np.mean(steps, 0), noise.mean(0))
        second = np.linalg.solve(np.eye(4) - operator, drift + mixed @ mean)
        assert found[k] == pytest.approx(second[0] + second[3], rel=0.1)


def test_clipped_descent_stands_at_the_root_when_it_sees_everything():
    """Many examples in each step: the mean of w is the root of the clipped sum, and ā with feedback."""
    values = np.random.default_rng(0).exponential(size=(2, 10))
    roots = [clipped_root(own, 0.2) for own in values]
    for own, root in zip(values, roots, strict=True):
        assert np.clip(root - own, -0.2, 0.2).sum() == pytest.approx(0, abs=1e-9)
    found = stationary_mean(PerExampleClip(0.2), values, 0.1, runs=20, batch_size=200)
    np.testing.assert_allclose(found, roots, atol=0.02)
    repaired = stationary_mean(PerExampleClip(0.2, 0.8), values, 0.1, runs=20, batch_size=200)
    np.testing.assert_allclose(repaired, values.mean(1), atol=0.02)


def test_hard_examples_are_what_they_are_called():
    case = hard_classification(0, 24, 10, 4, 60)
    assert not is_separable(normalised(case.inputs), case.labels)
    assert is_separable(in_batches(case.inputs, case.order, 4), case.labels[case.order])
    assert 0 < least_risk(case.inputs, case.labels) < np.log(2)


def test_projected_momentum_is_sgdp_where_gradients_are_tangential():
    """SGDP projects where |cos(w, g)| < δ/√dim, which tangential gradients always meet (Heo et al. 2020)."""
    sgdp = pytest.importorskip("pytorch_optimizer").SGDP
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(1, 50, generator=generator, dtype=torch.float64)
    parameter = torch.nn.Parameter(w.clone())
    optimizer = sgdp([parameter], lr=0.1, momentum=0.9, eps=1e-300)
    own, p = w.numpy().copy(), np.zeros((1, 50))
    for _ in range(20):
        drawn = torch.randn(1, 50, generator=generator, dtype=torch.float64).numpy()
        g = tangential(drawn, own)
        p = 0.9 * p + g
        own = own - 0.1 * tangential(p, own)
        parameter.grad = torch.from_numpy(tangential(drawn, parameter.detach().numpy()))
        optimizer.step()
        np.testing.assert_allclose(parameter.detach().numpy(), own, rtol=1e-9)
