"""Generalisation gap: the cost of test examples less that of training examples."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.arguments import require_population
from sgdlit.foundations.errors import UserError
from sgdlit.measures.from_scripts import LossOfEach, noticed, of_each
from sgdlit.measures.mean_gradient import has_examples, require_examples
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.undisturbed import outputs_of, preserved, refuse_not_finite
from sgdlit.measures.work import Sizes, Work, Works

_NORMAL = 1.959963984540054  # two-sided 95 %: test sets are large


class Gap(NamedTuple):
    """Test loss − training loss with its 95 % interval, in C."""

    gap: float
    low: float
    high: float


def mean_loss(network: nn.Module, loss: LossOfEach, batches: Iterable[Batch]) -> tuple[float, float, int]:
    """Mean of the losses of n examples, their variance (divisor n − 1), and n; nothing changes.

    Raises:
        UserError: a loss that has no value per example; a network that has diverged; no examples.
    """
    own = of_each(loss)
    refuse_not_finite(network)
    with preserved(network) as looked_at, torch.no_grad():
        full = filter(has_examples, noticed(batches))
        each = [own.per_example(outputs_of(looked_at, x), y).double() for x, y in full]
    require_examples(len(each))
    losses = torch.cat(each)
    n = len(losses)
    return float(losses.mean()), float(losses.var()) if n > 1 else math.nan, n


def train_test_gap(
    network: nn.Module,
    loss: LossOfEach,
    training: Iterable[Batch],
    test: Iterable[Batch],
    population: float = math.inf,
) -> Gap:
    """C_test − C_train = Σ_test C_i/m − Σ_train C_i/n of the same network in the same mode, with an interval.

    The test examples are taken for draws from a distribution. The training set is what it is: what its n
    examples leave unsure vanishes where they are all of it.

    Args:
        network: in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> one loss for each example.
        training: batches of training examples, not augmented.
        test: batches of test examples.
        population: N, the size of the training set.
    """
    return gap_of(mean_loss(network, loss, training), mean_loss(network, loss, test), population)


def gap_of(
    training: tuple[float, float, int], test: tuple[float, float, int], population: float = math.inf
) -> Gap:
    """The same from mean, variance and number of the losses of training and of test examples."""
    (here, own, n), (there, other, m) = training, test
    require_population(population, n)
    error = math.sqrt((1 - n / population) * own / n + other / m)
    gap = there - here
    return Gap(gap, gap - _NORMAL * error, gap + _NORMAL * error)


class TrainTestGap(Measure):
    """``measure/train_test_gap`` C_test − C_train between ``..._low`` and ``..._high`` (95 %)."""

    formula = "C_test − C_train at the same θ, without augmentation"
    answers = "how much better is the network on what it has seen"
    price = "(n + examples of the test set)/3"
    logged = ("measure/train_test_gap", "measure/train_test_gap_low", "measure/train_test_gap_high")
    needs = ("examples", "batches")

    def check(self, network: nn.Module, data: KeyedData) -> None:
        data.setup()
        if not data.size("test"):
            raise UserError(
                f"TrainTestGap: {type(data).__name__} has no test examples; allowed: data with some"
            )

    def work(self, sizes: Sizes) -> Works:
        return {self: Work(forwards=sizes.examples + sizes.test)}

    def take(self, run: RunAtStep, member: int) -> Values:
        test, population = run.batches("test", None), run.examples.population
        found = train_test_gap(run.network, run.loss, run.examples, test, population)
        return {
            "measure/train_test_gap": found.gap,
            "measure/train_test_gap_low": found.low,
            "measure/train_test_gap_high": found.high,
        }
