"""The mean loss of each class, which the mean over all examples hides where classes are of unequal sizes."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.errors import UserError
from sgdlit.measures.from_scripts import LossOfEach, noticed, of_each
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.undisturbed import preserved
from sgdlit.measures.work import Sizes, Work, Works


def class_losses(network: nn.Module, loss: LossOfEach, batches: Iterable[Batch]) -> dict[int, float]:
    """C_c = (1/n_c) Σ_{y_i = c} C_i of each class c that occurs; nothing of the network changes.

    Source: Francazi, Baity-Jesi & Lucchi 2022, arXiv:2207.00391.

    Args:
        network: in the mode in which it is.
        loss: outputs and targets -> one loss for each example.
        batches: inputs ``[b, ...]``, and classes or signs ``[b]``.
    """
    loss = of_each(loss)
    sums: dict[int, float] = defaultdict(float)
    counts: dict[int, int] = defaultdict(int)
    with preserved(network), torch.no_grad():
        for inputs, targets in noticed(batches):
            each = loss.per_example(network(inputs), targets).double()
            for label in targets.unique():
                own = targets == label
                sums[int(label)] += float(each[own].sum())
                counts[int(label)] += int(own.sum())
    return {label: sums[label] / counts[label] for label in sorted(sums)}


class ClassLosses(Measure):
    """``measure/class_loss/C`` mean loss of the examples of class C, for each that occurs among them."""

    formula = "C_c = mean of C_i over the examples with y_i = c"
    answers = "which class is learned, and which is given up"
    price = "n/3"
    logged = ("measure/class_loss/C",)
    needs = ("examples",)

    def check(self, network: nn.Module, data: KeyedData) -> None:
        _, targets = data.example()
        signs = bool((targets.abs() == 1).all())
        if targets.dim() != 1 or (targets.is_floating_point() and not signs):
            raise UserError(
                "ClassLosses: the targets are no classes; allowed: data with one class per example"
            )

    def work(self, sizes: Sizes) -> Works:
        return {self: Work(forwards=sizes.examples)}

    def take(self, run: RunAtStep, member: int) -> Values:
        found = class_losses(run.network, run.loss, run.examples)
        return {f"measure/class_loss/{label}": value for label, value in found.items()}
