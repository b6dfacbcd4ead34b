"""Minimum-norm least squares from rank-one measurements, against numpy and against its expected error."""

import math

import numpy as np
import pytest
import torch

from sgdlit.data.sensing import MatrixSensing
from sgdlit.foundations.errors import UserError
from sgdlit.theory.least_squares import expected_error, minimum_norm


def measurements(d, samples, seed=0, **given):
    data = MatrixSensing(d=d, r=2, gamma=1.0, steps=1, seed=seed, dtype="float64", **given)
    pairs, y = data.draw("train", torch.arange(samples))
    return pairs[:, 0], pairs[:, 1], y, data.target


@pytest.mark.parametrize("samples", [100, 512, 2048])
def test_is_the_minimum_norm_solution_of_numpy(samples):
    """Second implementation: numpy's lstsq on the n × d² system. From n > d² it is T itself."""
    a, b, y, target = measurements(32, samples)
    found = minimum_norm(a, b, y, tolerance=1e-10, max_iterations=20000)
    assert found.residual <= 1e-10
    if samples == 2048:
        assert torch.allclose(found.matrix, target, atol=1e-6)
        return
    system = torch.einsum("ni,nj->nij", a, b).flatten(1).numpy()
    expected = np.linalg.lstsq(system, y.numpy(), rcond=None)[0].reshape(32, 32)
    np.testing.assert_allclose(found.matrix.numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_b2_the_relative_error_is_the_root_of_what_is_not_measured(distribution, share):
    """0.707 from d²/2 samples: the mean squared ratio of 20 draws is within 5 standard errors of 1 − n/d²."""
    squares = []
    for seed in range(20):
        a, b, y, target = measurements(32, int(share * 1024), seed, distribution=distribution)
        matrix = minimum_norm(a, b, y).matrix
        squares.append(float((matrix - target).square().sum() / target.square().sum()))
    error = np.std(squares, ddof=1) / math.sqrt(20)
    assert abs(np.mean(squares) - (1 - share)) < 5 * error
    assert expected_error(int(share * 1024), 32) == pytest.approx(math.sqrt(1 - share))
    if share == 0.5:
        assert expected_error(512, 32) == pytest.approx(0.7071, abs=1e-4)


def test_nothing_measured_is_nothing_found():
    a, b, y, _ = measurements(8, 10)
    found = minimum_norm(a, b, torch.zeros_like(y))
    assert found.iterations == 0
    assert not found.matrix.any()


def test_what_cannot_be_solved_is_refused():
    a, b, y, _ = measurements(4, 40, label_noise=1.0)
    with pytest.raises(UserError, match="after 50 iterations"):
        minimum_norm(a, b, y, max_iterations=50)
    with pytest.raises(UserError, match=r"\(40, 4\), \(3, 4\)"):
        minimum_norm(a, b[:3], y)
