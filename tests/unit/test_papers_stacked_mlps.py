"""The networks that studies train in a loop of their own, against autograd through ``MLP``."""

import torch
from torch.nn.functional import cross_entropy

from sgdlit.models import MLP
from sgdlit.papers.support import stacked_mlps

WIDTHS, RUNS, BATCH = [7, 6, 5, 3], 4, 9


def networks(parameters):
    for k in range(RUNS):
        network = MLP(WIDTHS).double()
        for own, stacked in zip(network.parameters(), parameters, strict=True):
            own.data.copy_(stacked[k])
        yield network


def test_losses_gradients_and_errors_are_those_of_the_networks():
    parameters = [p.double() for p in stacked_mlps.he_normal(WIDTHS, 2, 2)]
    parameters = [p + 0.1 * torch.randn_like(p) for p in parameters]
    inputs, labels = torch.randn(RUNS, BATCH, 7).double(), torch.randint(3, (RUNS, BATCH))
    losses, gradients = stacked_mlps.gradient(parameters, inputs, labels)
    wrong = stacked_mlps.errors(parameters, inputs[0], labels[0])
    for k, network in enumerate(networks(parameters)):
        loss = cross_entropy(network(inputs[k]), labels[k])
        expected = torch.autograd.grad(loss, list(network.parameters()))
        torch.testing.assert_close(losses[k], loss.detach())
        for own, g in zip(gradients, expected, strict=True):
            torch.testing.assert_close(own[k], g)
        assert wrong[k] == (network(inputs[0]).argmax(1) != labels[0]).double().mean()


def test_runs_of_a_seed_start_alike_and_see_the_same_examples():
    parameters = stacked_mlps.he_normal([100, 50, 3], seeds=2, settings=2)
    assert torch.equal(parameters[0][0], parameters[0][2])
    assert not torch.equal(parameters[0][0], parameters[0][1])
    assert abs(float(parameters[0].std()) - (2 / 100) ** 0.5) < 0.005
    first, second = stacked_mlps.with_replacement(2, 3, 50, 8, 2)
    assert first.shape == (6, 8)
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
