"""DoG by its formula against the package of its authors, in float64, with its average."""

import numpy as np
import pytest
import torch
from torch import nn

from sgdlit.theory.distance_over_gradients import train
from sgdlit.theory.draws import normal_matrix

N, D, STEPS = 30, 4, 25


def problem():
    inputs = normal_matrix(0, "DoG inputs", N, D)
    targets = inputs @ np.arange(1.0, D + 1) + normal_matrix(0, "DoG noise", 1, N)[0]
    visits = np.random.default_rng(0).integers(0, N, (STEPS, 3))
    return inputs, targets, visits


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_dog_is_the_authors(scale):
    dog = pytest.importorskip("dog")
    inputs, targets, visits = problem()
    reps = np.array([1e-6, 1e-2])
    found = train(inputs, targets, visits, reps, np.array([]), scale)
    for k, start in enumerate(reps):
        network = nn.Linear(D, 1, bias=False).double()
        nn.init.zeros_(network.weight)
        optimizer, average = (
            dog.DoG(network.parameters(), reps_rel=start),
            dog.PolynomialDecayAverager(network),
        )
        for chosen in visits:
            x, y = torch.from_numpy(inputs[chosen]), torch.from_numpy(targets[chosen])
            optimizer.zero_grad()
            (scale * 0.5 * (network(x)[:, 0] - y).square().mean()).backward()
            optimizer.step()
            average.step()
        np.testing.assert_allclose(found.last[k], network.weight.detach().numpy()[0], rtol=1e-9)
        expected = average.averaged_model.weight.detach().numpy()[0]
        np.testing.assert_allclose(found.average[k], expected, rtol=1e-9)


def test_sgd_beside_it_is_sgd():
    inputs, targets, visits = problem()
    found = train(inputs, targets, visits, np.array([1e-4]), np.array([0.05]))
    w, iterates = np.zeros(D), []
    for chosen in visits:
        x = inputs[chosen]
        w = w - 0.05 * x.T @ (x @ w - targets[chosen]) / len(chosen)
        iterates.append(w)
    np.testing.assert_allclose(found.last[1], w, rtol=1e-12)
    weights = np.array([1.0])  # of the average, by its recursion
    for t in range(2, STEPS + 1):
        weights = np.append(weights * (1 - 9 / (t + 8)), 9 / (t + 8))
    np.testing.assert_allclose(found.average[1], weights @ np.array(iterates), rtol=1e-12)
