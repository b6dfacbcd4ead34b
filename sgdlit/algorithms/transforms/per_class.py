"""Gradients of each class alone, normalised: no class outweighs another."""

import torch
from torch import Tensor

from sgdlit.algorithms.transforms.base import Examples, GradientTransform, State
from sgdlit.foundations.errors import UserError

_LEAST = 1e-8  # a class whose gradient is shorter says nothing
_NO_LABELS = "model.transform: PerClassNormalisation needs one label per example; allowed: data with classes"


class PerClassNormalisation(GradientTransform):
    """(1/K) Σ_c g_c/‖g_c‖, with g_c the mean gradient of the examples of class c.

    A class that a batch lacks, or whose gradient is 0, adds nothing. Source: Francazi, Baity-Jesi & Lucchi
    2022, 2207.00391 (PCNGD on the full batch, PCNSGD on minibatches).

    Args:
        classes: K.

    Raises:
        UserError: fewer than two classes; before a run, targets that are no labels, or another number of
            classes than the network tells apart.
    """

    small = ({"classes": 3},)

    def __init__(self, classes: int = 2) -> None:
        if classes < 2:
            raise UserError(f"model.transform.classes: {classes} is not possible; allowed: 2 or more")
        self.classes = classes

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        if targets.dim() != 1 or not torch.equal(targets, targets.round()):
            raise UserError(_NO_LABELS)
        apart = outputs.shape[1] if outputs.dim() == 2 and outputs.shape[1] > 1 else 2
        if self.classes != apart:
            raise UserError(
                f"model.transform.classes: {self.classes}, but the network tells {apart} classes apart; "
                f"allowed: {apart}"
            )

    def __call__(self, examples: Examples, state: State, step: int) -> tuple[Tensor, State]:
        if examples.targets.shape != examples.losses.shape:
            raise UserError(_NO_LABELS)
        labels = examples.targets.unique()
        if len(labels) > self.classes:
            raise UserError(
                f"model.transform.classes: {self.classes}, but a batch has {len(labels)} different "
                f"labels; allowed: "
                "the number of classes"
            )
        total = torch.zeros_like(examples.parameters)
        for label in labels:
            own = (examples.targets == label).to(examples.losses)
            gradient = examples.weighted(own / own.sum(-1, keepdim=True).clamp_min(1))
            length = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
            total = total + gradient / length.clamp_min(_LEAST)
        return total / self.classes, state
