"""Measures of certain networks and data: support, feature share, rollout cost, dropout stability."""

import math

import pytest
import torch

from sgdlit.data.teachers import XOR, LinearTeacher
from sgdlit.foundations.errors import UserError
from sgdlit.measures.dropout_stability import DropoutStability, kept_loss
from sgdlit.measures.feature_share import FeatureShare, feature_share
from sgdlit.measures.rollout_cost import RolloutCost, rollout_cost
from sgdlit.measures.support_size import SupportSize, support_size
from sgdlit.models import MLP
from sgdlit.models.mean_field import MeanField
from sgdlit.models.perceptron import Perceptron
from sgdlit.objectives import loss_by_name


def test_support_counts_what_is_above_the_threshold():
    assert support_size(torch.tensor([[0.0, 2e-3], [-5.0, -1e-3]])) == 2
    assert support_size(torch.tensor([0.5, -2.0]), threshold=1.0) == 1


def test_feature_share_of_equal_weights_is_their_share_of_inputs():
    assert feature_share(torch.full((3, 8), -2.0), [1, 4]) == pytest.approx(2 / 8)
    assert feature_share(torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 2.0]]), [0]) == pytest.approx(9 / 18)


def test_a_rollout_costs_the_sum_of_its_states():
    """By stepping x ← φx, and as a geometric series."""
    factor = torch.tensor([0.5, -0.9, 1.05], dtype=torch.float64)
    found = rollout_cost(factor, 60)
    for cost, phi in zip(found.tolist(), factor.tolist(), strict=True):
        state, total = 1.0, 0.0
        for _ in range(60):
            total += abs(state)
            state *= phi
        assert cost == pytest.approx(total, rel=1e-12)
        assert cost == pytest.approx((1 - abs(phi) ** 60) / (1 - abs(phi)), rel=1e-12)


def test_kept_loss_is_that_of_the_smaller_network():
    torch.manual_seed(0)
    network, loss = MeanField(3, 6, bias_scale=1.0).double(), loss_by_name("half_squared_error")
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    two = zip(*(p.detach()[:2] for p in network.parameters()), strict=True)
    outputs = sum(a * (x @ w + b).clamp(min=0) for w, b, a in two)
    expected = 0.5 * (outputs / 2 - y).square().mean()
    batches = [(x[:4], y[:4]), (x[4:], y[4:])]
    assert kept_loss(network, loss, batches, 2) == pytest.approx(float(expected), rel=1e-12)
    whole = loss(network(x), y).item()
    assert kept_loss(network, loss, batches, 6) == pytest.approx(whole, rel=1e-12)
    with pytest.raises(UserError, match="kept = 7"):
        kept_loss(network, loss, batches, 7)


@pytest.mark.parametrize(
    ("measure", "network", "data", "named"),
    [
        (SupportSize(), MLP([5, 1]), XOR(5, steps=1), "SupportSize: MLP"),
        (FeatureShare([5]), MLP([5, 1]), XOR(5, steps=1), r"inputs \[5\] of a first layer with 5"),
        (FeatureShare([0]), Perceptron(5), XOR(5, steps=1), "FeatureShare: Perceptron"),
        (RolloutCost(), Perceptron(2), LinearTeacher(2, steps=1), "RolloutCost: LinearTeacher"),
        (DropoutStability(), MLP([5, 1]), XOR(5, steps=1), "DropoutStability: MLP"),
        (DropoutStability(kept=9), MeanField(5, 8), XOR(5, steps=1), "kept = 9 of 8"),
    ],
)
def test_runs_of_which_they_cannot_be_taken_are_refused(measure, network, data, named):
    with pytest.raises(UserError, match=named):
        measure.check(network, data)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: SupportSize(threshold=-1), "threshold: -1"),
        (lambda: FeatureShare([1, 1]), r"inputs: \[1, 1\]"),
        (lambda: FeatureShare([]), r"inputs: \[\]"),
        (lambda: RolloutCost(horizon=0), "horizon: 0"),
        (lambda: DropoutStability(kept=0), "kept: 0"),
        (lambda: SupportSize(threshold=math.nan), "threshold: nan"),
    ],
)
def test_wrong_arguments_are_named(make, named):
    with pytest.raises(UserError, match=named):
        make()
