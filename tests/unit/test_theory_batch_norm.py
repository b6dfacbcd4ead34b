"""Batch-normalised regression against torch's BatchNorm and gradients; separability against constructions."""

import numpy as np
import torch

from sgdlit.theory.batch_norm import (
    full_batch_optimum,
    in_batches,
    is_separable,
    reshuffling_optimum,
    single_shuffle_optimum,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 4))
Y = X @ RNG.standard_normal(4) + RNG.standard_normal(24)
ORDERS = np.stack([RNG.permutation(24) for _ in range(7)])


def outputs(m, order, batch_size):
    """M·BN(x) of torch, batch by batch, in training mode."""
    layer = torch.nn.BatchNorm1d(4, affine=False).double()
    return torch.cat([layer(x) for x in torch.from_numpy(X[order]).split(batch_size)]) @ m


def test_batches_are_normalised_as_torch_does():
    m = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = in_batches(X, ORDERS, 6) @ m.numpy()
    for order, own in zip(ORDERS, found, strict=True):
        np.testing.assert_allclose(own, outputs(m, order, 6), rtol=1e-12)


def test_at_each_optimum_the_gradient_of_its_loss_is_zero():
    def gradient(m, orders, batch_size):
        theta = torch.tensor(m, requires_grad=True)
        wanted = torch.from_numpy(Y)
        loss = sum((outputs(theta, o, batch_size) - wanted[o]).square().sum() for o in orders)
        return torch.autograd.grad(loss, theta)[0]

    cases = (
        (single_shuffle_optimum(X, Y, ORDERS[0], 6), ORDERS[:1], 6),
        (reshuffling_optimum(X, Y, ORDERS, 6), ORDERS, 6),
        (full_batch_optimum(X, Y), np.arange(24)[None], 24),
    )
    for m, orders, batch_size in cases:
        assert gradient(m, orders, batch_size).abs().max() < 1e-9
    assert gradient(cases[0][0], ORDERS, 6).abs().max() > 1e-2


def test_separability():
    labels = np.sign(X @ [1.0, -2.0, 0.5, 1.0])
    assert is_separable(X, labels)
    centre = np.vstack([X, np.zeros((1, 4))])
    assert not is_separable(centre, np.r_[labels, 1.0])
    both = np.vstack([X, X[:1]])
    assert not is_separable(both, np.r_[labels, -labels[0]])
