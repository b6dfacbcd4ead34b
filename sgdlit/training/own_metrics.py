"""Metrics of torchmetrics in the evaluations of a run, of every member and over ranks.

    metrics:
      calibration: {class_path: MulticlassCalibrationError, init_args: {num_classes: 10}}
      confusion: {class_path: MulticlassConfusionMatrix, init_args: {num_classes: 10}}

A number is logged as ``test/calibration``, a list of numbers as ``test/NAME_0``, ``test/NAME_1``, …; a matrix
is kept in the run's folder, as ``measures/test_confusion/``, and drawn in TensorBoard.
"""

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torchmetrics import Metric

from sgdlit.foundations.errors import UserError
from sgdlit.measures.array_files import drop_after, write_about, write_array
from sgdlit.objectives import CrossEntropy, HalfSquaredError, Hinge, Logistic, Loss
from sgdlit.objectives.losses import NetworkOutput, NextToken
from sgdlit.runs.metrics_file import MetricsFile
from sgdlit.training.rows import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metrics = Mapping[str, Metric]
Matrices = dict[str, np.ndarray]
_TAKEN = ("loss", "accuracy", "soft_error")  # and their records
_SPLITS = ("train_set", "val", "test")
_TEXT_UP_TO = 12  # classes of which a picture shows every number


def seen_by_metrics(loss: Loss, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """What a metric is given: probabilities and classes where there are classes, else values.

    Of ``cross_entropy`` the softmax ``[B, C]``, of ``next_token`` that of every place, of ``logistic`` and
    ``hinge`` the probability of +1 that a logistic function gives, with classes 0 and 1. Targets that are
    probabilities count as their most probable class.
    """
    if isinstance(loss, NextToken):
        return outputs.flatten(0, 1).float().softmax(-1), targets.flatten()
    if isinstance(loss, CrossEntropy):
        return outputs.float().softmax(1), targets.argmax(1) if targets.is_floating_point() else targets
    if isinstance(loss, Logistic | Hinge):
        return outputs.float().flatten().sigmoid(), (targets.flatten() > 0).long()
    if isinstance(loss, HalfSquaredError) and targets.is_floating_point():
        return outputs.float().reshape(targets.shape), targets.float()
    return outputs.float(), targets


class MetricsOfMember:
    """The metrics of one run, added up over each evaluation set.

    Args:
        metrics: by name, as they were built; copies are used.
        loss: of the run.
        apart: whether the run is one of several, each of which is evaluated by one process alone.
    """

    def __init__(self, metrics: Metrics, loss: Loss, apart: bool) -> None:
        self.metrics, self.loss, self.apart = metrics, loss, apart
        self._held: dict[tuple[str, str], Metric] = {}

    def update(self, split: str, outputs: Tensor, targets: Tensor) -> None:
        """Take a batch into account."""
        for name in self.metrics:
            self._metric(split, name, outputs.device).update(*seen_by_metrics(self.loss, outputs, targets))

    def _metric(self, split: str, name: str, device: torch.device) -> Metric:
        if (split, name) not in self._held:
            own = copy.deepcopy(self.metrics[name]).to(device)
            if self.apart:
                own.distributed_available_fn = lambda: False
            self._held[split, name] = own
        return self._held[split, name]

    def results(self, split: str) -> tuple[Row, Matrices]:
        """What there is to log about a set, and its matrices; a clean slate.

        Of a run over ranks every rank asks for it.
        """
        row: Row = {}
        matrices: Matrices = {}
        for name in self.metrics:
            metric = self._held.pop((split, name), None)
            if metric is not None:
                numbers, arrays = named_values(name, _computed(name, metric))
                row |= {f"{split}/{own}": value for own, value in numbers.items()}
                matrices |= {f"{split}_{own}": array for own, array in arrays.items()}
        return row, matrices


def _computed(name: str, metric: Metric) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes without examples: the number says it
        try:
            return metric.compute()
        except (ValueError, RuntimeError, TypeError) as error:
            raise UserError(f"model.metrics.{name}: {error}") from error


def named_values(name: str, value: Any) -> tuple[Row, Matrices]:
    """Numbers and matrices by name, of what a metric found.

    Raises:
        UserError: it is neither a number, a list of numbers, a matrix nor a mapping to such.
    """
    row: Row = {}
    matrices: Matrices = {}
    if isinstance(value, Mapping):
        for part, inner in value.items():
            numbers, arrays = named_values(f"{name}_{part}", inner)
            row, matrices = row | numbers, matrices | arrays
    elif not isinstance(value, Tensor):
        raise UserError(
            f"model.metrics.{name}: gives a {type(value).__name__}; allowed: metrics that give a number, "
            "numbers, or a matrix"
        )
    elif value.numel() == 1:
        row[name] = float(value)
    elif value.dim() == 1:
        row = {f"{name}_{k}": float(number) for k, number in enumerate(value)}
    else:
        matrices[name] = value.detach().cpu().numpy()
    return row, matrices


def check_metrics(metrics: Metrics, loss: Loss, outputs: Tensor, targets: Tensor) -> None:
    """Refuse metrics that do not go with a run, on some of its training examples.

    Args:
        metrics: by name.
        loss: of the run.
        outputs: of the examples.
        targets: of the examples.

    Raises:
        UserError: naming the metric, and what it says.
    """
    for name, metric in metrics.items():
        if name in _TAKEN or not name.isidentifier():
            raise UserError(
                f"model.metrics.{name}: not possible as a name; allowed: letters, digits and _, other than "
                f"{', '.join(_TAKEN)}"
            )
        if isinstance(loss, NetworkOutput):
            raise UserError(
                f"model.metrics.{name}: with model.loss: network_output there is nothing to compare; "
                "allowed: none"
            )
        own = copy.deepcopy(metric).to(outputs.device)
        own.distributed_available_fn = lambda: False
        try:
            own.update(*seen_by_metrics(loss, outputs, targets))
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            kind = type(metric).__name__
            said = " ".join(str(error).split())
            raise UserError(
                f"model.metrics.{name}: {kind} cannot take outputs of shape {list(outputs.shape)} and "
                f"targets of shape {list(targets.shape)}: {said}"
            ) from error
        named_values(name, _computed(name, own))


# Matrices


def forget_later_matrices(trainer: Trainer) -> None:
    """A run begins, or goes on: what was measured after this step is measured again."""
    folder = _folder(trainer)
    if folder is not None:
        drop_after(folder, trainer.global_step)


def keep_matrices(
    found: Mapping[int, Matrices], metrics: Metrics, trainer: Trainer, several: bool, drawn: bool
) -> None:
    """Write the matrices of members into the folder of the run, and draw them in TensorBoard.

    Args:
        found: by member and name.
        metrics: of the run, by name.
        trainer: of the run.
        several: whether runs train together.
        drawn: whether there is to be a picture of each.
    """
    folder = _folder(trainer)
    if folder is None:
        return
    for k, matrices in found.items():
        for name, array in matrices.items():
            split = next(split for split in _SPLITS if name.startswith(f"{split}_"))
            own = name.removeprefix(f"{split}_")
            kind = type(metrics[own]).__name__ if own in metrics else own
            write_about(folder, name, {"metric": kind, "set": split, "dtype": str(array.dtype)})
            write_array(folder, name, trainer.global_step, k if several else None, array)
            if drawn and array.ndim == 2:
                _draw(trainer, f"{split}/{own}" + (f"/member_{k}" if several else ""), array, kind)


def _folder(trainer: Trainer) -> Path | None:
    """The folder of the run, on the process that writes it."""
    tables = [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]
    return tables[0].path.parent if tables and trainer.is_global_zero else None


def _draw(trainer: Trainer, name: str, array: np.ndarray, kind: str) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(name, matrix_picture(array, kind), trainer.global_step)


def matrix_picture(array: np.ndarray, kind: str) -> "Figure":
    """A matrix ``[n, m]`` as a picture; of few classes with its numbers.

    Args:
        array: the matrix.
        kind: the class of the metric: of a confusion matrix the axes are named.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(array, cmap="Blues")
    figure.colorbar(image, ax=axes)
    if "ConfusionMatrix" in kind:
        axes.set_xlabel("predicted class")
        axes.set_ylabel("class")
    if max(array.shape) <= _TEXT_UP_TO:
        axes.set_xticks(range(array.shape[1]))
        axes.set_yticks(range(array.shape[0]))
        middle = (float(np.nanmin(array)) + float(np.nanmax(array))) / 2
        for (row, column), value in np.ndenumerate(array):
            text = f"{value:d}" if array.dtype.kind in "iu" else f"{value:.2f}"
            colour = "white" if value > middle else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    return figure
