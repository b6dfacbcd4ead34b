"""Clones, mixtures with given moments, and what is measured of classes."""

import math

import pytest
import torch
from fake_trainer import attach

from sgdlit.data.clone import GaussianClone, class_moments
from sgdlit.data.finite.shapes import Shapes
from sgdlit.data.hidden_moments import HiddenMoments
from sgdlit.data.teachers import GaussianMixture, LinearTeacher
from sgdlit.foundations.errors import UserError
from sgdlit.measures.class_losses import class_losses
from sgdlit.measures.row_alignment import row_alignment, softmax_blocks
from sgdlit.models import MLP
from sgdlit.objectives import loss_by_name

N = 60_000
INDEX = torch.arange(N)


def moments(x, y, c):
    own = x[y == c].double()
    return own.mean(0), torch.cov(own.T)


@pytest.mark.parametrize("kind", ["covariance", "isotropic"])
def test_a_clone_has_the_moments_of_its_original(kind):
    """Within five standard errors; what it lacks are the signs, whose fourth moment is 1 and not 3."""
    original = HiddenMoments(8, steps=1, dtype="float64", seed=2)
    clone = GaussianClone(original, kind, samples=N, steps=1, dtype="float64", seed=3)
    x, y = clone.draw("train", INDEX)
    true_x, true_y = original.chosen(original.choose(N, "clone"), torch.device("cpu"))
    for c in (0, 1):
        (mean, covariance), (true_mean, true) = moments(x, y, c), moments(true_x, true_y, c)
        error = math.sqrt(float(covariance.diagonal().max()) / (N / 2))
        assert (mean - true_mean).abs().max() < 6 * error
        wanted = true if kind == "covariance" else true.diagonal().mean() * torch.eye(8, dtype=torch.float64)
        assert (covariance - wanted).abs().max() < 0.12 + 0.002 * float(true.diagonal().mean())
    z = x[y == 1] @ original.rotation
    true_z = true_x[true_y == 1] @ original.rotation
    fourth = [
        float(((own[:, 2] - own[:, 2].mean()) ** 4).mean() / own[:, 2].var() ** 2) for own in (true_z, z)
    ]
    assert fourth[0] < 1.6
    assert fourth[1] == pytest.approx(3, abs=0.15)
    assert abs(float((y == 1).double().mean()) - 0.5) < 0.02


def test_a_clone_is_drawn_example_by_example_and_tested_on_the_original():
    original = HiddenMoments(8, steps=1, test_size=50, val_size=30, seed=2)
    clone = GaussianClone(original, samples=2000, steps=2, batch_size=4, test_size=50, val_size=30, seed=1)
    whole, labels = clone.draw("train", torch.arange(500))
    some = torch.tensor([400, 3, 77])
    x, y = clone.draw("train", some)
    assert torch.equal(x, whole[some])
    assert torch.equal(y, labels[some])
    for split in ("val", "test"):
        for own, other in zip(
            clone.draw(split, torch.arange(20)), original.draw(split, torch.arange(20)), strict=True
        ):
            assert torch.equal(own, other)
    with pytest.raises(UserError, match=r"test_size: 51 is not possible"):
        GaussianClone(original, samples=2000, steps=2, test_size=60).draw("test", torch.arange(51))


def test_images_are_cloned_as_the_network_sees_them():
    original = attach(Shapes(train_size=60, test_size=12, augment=False, last_batch="drop", seed=1))
    clone = attach(GaussianClone(original, samples=None, clamp=True, steps=2, test_size=12))
    x, y = clone.draw("train", torch.arange(40))
    seen, _ = original.chosen(original.choose(None, "clone"), torch.device("cpu"))
    assert x.shape[1:] == seen.shape[1:] == (3, 32, 32)
    assert float(x.min()) == float(seen.min())
    assert float(x.max()) == float(seen.max())
    assert 5 < len(y.unique()) <= 10
    with pytest.raises(UserError, match="a class has fewer than two"):
        attach(GaussianClone(original, samples=11, steps=2)).draw("train", torch.arange(3))
    with pytest.raises(UserError, match="61 is not possible for a training set of 60"):
        attach(GaussianClone(original, samples=61, steps=2)).draw("train", torch.arange(3))


def test_class_moments_are_those_of_torch():
    x, y = torch.randn(90, 3, dtype=torch.float64), torch.arange(90) % 2
    frequencies, means, factors = class_moments(x, y, isotropic=False)
    assert frequencies.tolist() == [0.5, 0.5]
    for c in (0, 1):
        mean, covariance = moments(x, y, c)
        torch.testing.assert_close(means[c], mean)
        jitter = 1e-3 * covariance.diagonal().mean() * torch.eye(3, dtype=torch.float64)
        torch.testing.assert_close(factors[c] @ factors[c].T, covariance + jitter)


def test_only_labelled_data_has_a_clone():
    with pytest.raises(UserError, match="its targets are no classes"):
        GaussianClone(LinearTeacher(4, steps=1), samples=50, steps=1).draw("train", torch.arange(3))
    with pytest.raises(UserError, match="never ends"):
        GaussianClone(HiddenMoments(8, steps=1), samples=None, steps=1).draw("train", torch.arange(3))


def test_a_mixture_has_the_means_variance_and_weights_asked_for():
    data = GaussianMixture(
        12, 3, 2.0, orthonormal=True, variance=0.25, class_weights=[1, 2, 5], steps=1, dtype="float64"
    )
    torch.testing.assert_close(data.means @ data.means.T, 4 * torch.eye(3, dtype=torch.float64))
    x, y = data.draw("train", INDEX)
    for c, share in enumerate((1 / 8, 2 / 8, 5 / 8)):
        assert abs(float((y == c).double().mean()) - share) < 5 * math.sqrt(share * (1 - share) / N)
    apart = x - data.means[y]
    assert float(apart.square().mean()) == pytest.approx(0.25, rel=5 * math.sqrt(2 / (12 * N)))
    for bad, words in (
        ({"classes": 20, "orthonormal": True}, "classes: 20"),
        ({"variance": 0.0}, "variance"),
        ({"class_weights": [1.0]}, "class_weights"),
    ):
        with pytest.raises(UserError, match=words):
            GaussianMixture(12, **bad, steps=1)


def test_softmax_blocks_are_the_hessian_and_the_second_moment_of_the_gradients():
    """Against torch's Hessian and per-example gradients, with a bias."""
    generator = torch.Generator().manual_seed(0)
    w, b, x = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((3, 4), (3,), (10, 4)))
    y = torch.arange(10) % 3
    blocks = softmax_blocks(w, x, y, b)

    def cost(weight, part=slice(None)):
        return torch.nn.functional.cross_entropy(x[part] @ weight.T + b, y[part])

    hessian = torch.autograd.functional.hessian(cost, w)
    gradients = torch.stack([torch.func.grad(cost)(w, slice(i, i + 1)) for i in range(10)])
    for c in range(3):
        torch.testing.assert_close(blocks.hessian[c], hessian[c, :, c, :])
        own = gradients[:, c]
        torch.testing.assert_close(blocks.gradient[c], own.T @ own / 10)


def test_alignment_of_known_rows():
    blocks = torch.diag_embed(torch.tensor([[5.0, 1.0, 3.0], [1.0, 2.0, 9.0]], dtype=torch.float64))
    rows = torch.tensor([[3.0, 0.0, 4.0], [3.0, 4.0, 12.0]], dtype=torch.float64)
    torch.testing.assert_close(row_alignment(rows, blocks, 1), torch.tensor([3 / 5, 12 / 13]).double())
    torch.testing.assert_close(
        row_alignment(rows, blocks, 2), torch.tensor([1.0, math.sqrt(160) / 13], dtype=torch.float64)
    )


def test_class_losses_are_means_over_the_classes_also_across_batches():
    loss, network = loss_by_name("cross_entropy"), MLP([4, 3])
    x, y = torch.randn(9, 4), torch.tensor([2, 0, 2, 2, 0, 2, 2, 2, 2])
    each = loss.per_example(network(x), y).detach().double()
    found = class_losses(network, loss, zip(x.split(4), y.split(4), strict=True))
    assert found == pytest.approx({0: float(each[y == 0].mean()), 2: float(each[y == 2].mean())}, rel=1e-6)
