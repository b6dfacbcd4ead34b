"""The losses against their formulas, and the strengths of the regularizer against their definitions."""

import math

import pytest
import torch

from sgdlit.foundations.errors import UserError
from sgdlit.objectives import (
    LOSSES,
    ConstantStrength,
    LinearRampStrength,
    PiecewiseStrength,
    TiedToLearningRate,
    loss_by_name,
)


def test_cross_entropy():
    f, y = torch.tensor([[1.0, 2.0], [3.0, 0.0]]).double(), torch.tensor([1, 1])
    expected = torch.tensor([math.log(1 + math.exp(-1)), math.log(1 + math.exp(3))]).double()
    loss = loss_by_name("cross_entropy")
    assert torch.allclose(loss.per_example(f, y), expected, rtol=1e-7)
    assert loss(f, y).item() == pytest.approx(expected.mean().item(), rel=1e-7)
    assert loss.correct(f, y).tolist() == [True, False]


def test_cross_entropy_with_probabilities_as_targets():
    """Linear in the targets: half and half is the mean of the two classes' losses."""
    f, loss = torch.tensor([[1.0, 2.5, 0.0]]).double(), loss_by_name("cross_entropy")
    mixed = torch.tensor([[0.5, 0.5, 0.0]]).double()
    expected = (loss(f, torch.tensor([0])) + loss(f, torch.tensor([1]))) / 2
    assert loss(f, mixed).item() == pytest.approx(expected.item(), rel=1e-12)
    assert loss.correct(f, torch.tensor([[0.1, 0.7, 0.2]])).tolist() == [True]


def test_half_squared_error():
    loss = loss_by_name("half_squared_error")
    f = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    assert loss.per_example(f, torch.tensor([[0.0, 0.0], [1.0, 1.0]])).tolist() == [2.5, 2.5]
    assert loss.per_example(f, torch.tensor([1, 1])).tolist() == [1.0, 5.0]
    assert loss(f, torch.tensor([1, 1])).item() == 3.0
    assert loss.correct(f, torch.tensor([1, 1])).tolist() == [True, False]
    assert loss.correct(f, f) is None
    assert loss.per_example(f[:, :1], torch.tensor([0.0, 1.0])).tolist() == [0.5, 2.0]


def test_logistic():
    loss = loss_by_name("logistic")
    f, y = torch.tensor([[2.0], [-1.0], [50.0]]).double(), torch.tensor([1.0, 1.0, -1.0]).double()
    expected = torch.tensor([math.log1p(math.exp(-2)), math.log1p(math.exp(1)), 50.0]).double()
    assert torch.allclose(loss.per_example(f, y), expected, rtol=1e-7)
    assert loss.correct(f, y).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "named"),
    [
        ("cross_entropy", torch.zeros(2, 10), torch.tensor([3, 11]), "label 11"),
        ("cross_entropy", torch.zeros(2, 10), torch.tensor([-1, 3]), "label -1"),
        ("cross_entropy", torch.zeros(2, 10), torch.zeros(2), "float32"),
        ("cross_entropy", torch.zeros(2, 10), torch.zeros(3).long(), "3 of them for 2"),
        ("cross_entropy", torch.zeros(1, 3), torch.tensor([[0.5, 0.6, 0.0]]), "distribution"),
        ("half_squared_error", torch.zeros(2, 3), torch.tensor([0, 3]), "label 3"),
        ("half_squared_error", torch.zeros(2, 3), torch.zeros(2, 2), r"\(2, 2\)"),
        ("logistic", torch.zeros(2), torch.tensor([0, 1]), "label 0"),
        ("next_token", torch.zeros(2, 3, 7), torch.zeros(2, 4).long(), r"\(2, 4\)"),
        ("next_token", torch.zeros(2, 3, 7), torch.full((2, 3), 7), "label 7"),
        ("logistic", torch.zeros(2, 2), torch.tensor([-1, 1]), r"\(2, 2\)"),
    ],
)
def test_targets_that_do_not_fit_are_named(name, outputs, targets, named):
    with pytest.raises(UserError, match=named):
        LOSSES[name].check_targets(outputs, targets)


def test_targets_that_fit():
    LOSSES["cross_entropy"].check_targets(torch.zeros(2, 3), torch.tensor([0, 2]))
    LOSSES["half_squared_error"].check_targets(torch.zeros(2, 1), torch.zeros(2))
    LOSSES["logistic"].check_targets(torch.zeros(2, 1), torch.tensor([-1.0, 1.0]))


def test_unknown_loss_is_named():
    with pytest.raises(UserError, match=r"loss: 'hinge'.*cross_entropy, half_squared_error, logistic"):
        loss_by_name("hinge")


def test_strengths():
    assert ConstantStrength(0.5)(7, 0.1) == 0.5
    piecewise = PiecewiseStrength([1.0, 0.5, 0.0], [10, 20])
    assert [piecewise(t, 0.1) for t in (0, 9, 10, 19, 20, 99)] == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]
    ramp = LinearRampStrength(0.0, 1.0, steps=4, begin=2)
    assert [ramp(t, 0.1) for t in (0, 2, 3, 4, 6, 9)] == [0.0, 0.0, 0.25, 0.5, 1.0, 1.0]
    assert TiedToLearningRate(4.0)(3, 0.25) == 1.0


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ConstantStrength(-1.0), "reg_strength: -1.0"),
        (lambda: PiecewiseStrength([1.0, -0.5], [10]), "reg_strength: -0.5"),
        (lambda: PiecewiseStrength([1.0], [10]), "boundaries: 1 of them for 1 values"),
        (lambda: PiecewiseStrength([1.0, 2.0, 3.0], [10, 10]), r"boundaries: \[10, 10\]"),
        (lambda: LinearRampStrength(0.0, 1.0, 0), "steps: 0"),
        (lambda: LinearRampStrength(0.0, 1.0, 5, begin=-1), "begin: -1"),
        (lambda: TiedToLearningRate(math.nan), "ratio: nan"),
    ],
)
def test_wrong_strengths_are_named(make, named):
    with pytest.raises(UserError, match=named):
        make()
