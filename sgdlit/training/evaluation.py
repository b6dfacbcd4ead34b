"""Loss and accuracy over whole evaluation sets, for every run, and the best that a run has reached in
them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from sgdlit.algorithms import Member
from sgdlit.algorithms.network_draws import draws, draws_of_step
from sgdlit.foundations.side_by_side import SideBySide
from sgdlit.measures.soft_error import soft_error
from sgdlit.objectives import CrossEntropy, Loss
from sgdlit.training.own_metrics import Matrices, MetricsOfMember

MEANS = ("loss", "accuracy", "soft_error")


def evaluate(loss: Loss, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """What is averaged over an evaluation set, for each example: ``loss``, and where classes are told apart
    ``accuracy`` (0 or 1) and, from their labels, ``soft_error``. Each of shape (batch,)."""
    found = {"loss": loss.per_example(outputs, targets)}
    correct = loss.correct(outputs, targets)
    if correct is not None:
        found["accuracy"] = correct
    if isinstance(loss, CrossEntropy) and not targets.is_floating_point():
        found["soft_error"] = soft_error(outputs, targets)
    return found


class EvaluationSums:
    """The means of every evaluation set for every run: float64 sums over examples and ranks, then one
    division.

    Args:
        members: the runs.
        metrics: those of each run that are no means; none where there are none.
    """

    def __init__(self, members: Sequence[Member], metrics: Sequence[MetricsOfMember] = ()) -> None:
        self.members, self.metrics = members, metrics
        self.matrices: dict[int, Matrices] = {}
        self._sums: dict[str, Tensor] = {}  # by set: [members, means and count]
        self._batches: dict[str, int] = {}  # by set: the number of the last one
        self._threads: SideBySide | None = None
        self._draws = False

    def add(
        self, split: str, members: Sequence[int], inputs: Tensor, targets: Tensor, trainer: Trainer
    ) -> None:
        """Add up what is averaged, and count the examples, of some members on a batch."""
        context, device = trainer.precision_plugin.forward_context, trainer.strategy.root_device
        threads = self._threads = self._threads or self._side_by_side(inputs, device, context)
        seen = self._batches[split] = self._batches.get(split, -1) + 1
        part = f"{split} {seen} of rank {trainer.global_rank}"

        def one(k: int) -> Tensor:
            member = self.members[k]
            drawing = draws_of_step(member, trainer.global_step, part) if self._draws else nullcontext()
            with context(), drawing:
                outputs = member.outputs(inputs)
            if self.metrics:
                self.metrics[k].update(split, outputs, targets)
            found = evaluate(member.loss, outputs, targets)
            missing = outputs.new_full((), torch.nan, dtype=torch.float64)
            return torch.stack([found[n].double().sum() if n in found else missing for n in MEANS])

        found = torch.stack(threads.map(one, list(members)))
        counted = torch.cat((found, torch.full_like(found[:, :1], len(targets))), 1)
        self._sums_of(split, device)[list(members)] += counted

    def results(self, splits: Iterable[str], trainer: Trainer) -> dict[int, dict[str, float]]:
        """The means of some sets for each member, over all ranks, and a clean slate."""
        splits = list(splits)
        found: dict[int, dict[str, float]] = {k: {} for k in range(len(self.members))}
        for split in splits:  # on every rank, whether or not it has seen something
            own = self._sums_of(split, trainer.strategy.root_device)
            sums = trainer.strategy.reduce(own, reduce_op="sum")
            for k, (*totals, count) in enumerate(sums.tolist()):
                if count:
                    means = {f"{split}/{n}": v / count for n, v in zip(MEANS, totals, strict=True)}
                    found[k] |= {n: v for n, v in means.items() if n.endswith("/loss") or not math.isnan(v)}
        self._add_metrics(found, splits)
        self._sums, self._batches = {}, {}
        return found

    def _add_metrics(self, found: dict[int, dict[str, float]], splits: Iterable[str]) -> None:
        """What is no mean over examples; of members, those that this process has evaluated."""
        self.matrices = {}
        for k, metrics in enumerate(self.metrics):
            for split in splits:
                row, matrices = metrics.results(split)
                found[k] |= row
                self.matrices.setdefault(k, {}).update(matrices)

    def _side_by_side(
        self, inputs: Tensor, device: torch.device, context: Callable[[], AbstractContextManager]
    ) -> SideBySide:
        """Members on threads, unless networks draw, from generators that all threads share."""
        with context():
            self._draws = draws(self.members[0], inputs[:1])
        return SideBySide(1 if self._draws else len(self.members), device, context)

    def _sums_of(self, split: str, device: torch.device) -> Tensor:
        shape = (len(self.members), len(MEANS) + 1)
        return self._sums.setdefault(split, torch.zeros(shape, dtype=torch.float64, device=device))


class BestSoFar:
    """The best of each evaluation set so far: highest accuracy, or lowest loss where nothing is classified.

    ``best`` has ``test/highest_accuracy`` (the metric of Smith et al. 2021) and, apart from it,
    ``test/accuracy_at_best_val``, that of the parameters which validation chose.
    """

    def __init__(self, best: Mapping[str, float] | None = None) -> None:
        self.best = dict(best or {})

    @staticmethod
    def names(split: str) -> list[str]:
        """What may be known of an evaluation set, of one that is classified or not."""
        figures = ["highest_accuracy", "lowest_loss", "accuracy_at_best_val", "loss_at_best_val"]
        return [f"{split}/{name}" for name in (*MEANS, *figures)]

    def update(self, row: Mapping[str, float], splits: Iterable[str]) -> bool:
        """Take an evaluation into account; whether validation says that this is the best so far.

        An evaluation that is not finite breaks no record.
        """
        splits = [split for split in splits if f"{split}/loss" in row]
        if not all(math.isfinite(row[f"{split}/loss"]) for split in splits):
            return False
        classified = any(f"{split}/accuracy" in row for split in splits)
        figure, word, better = ("accuracy", "highest", max) if classified else ("loss", "lowest", min)
        before = self.best.get(f"val/{word}_{figure}")
        for split in splits:
            record, now = f"{split}/{word}_{figure}", row[f"{split}/{figure}"]
            self.best[record] = better(now, self.best.get(record, now))
        improved = "val" in splits and self.best[f"val/{word}_{figure}"] != before
        if improved and "test" in splits:
            self.best[f"test/{figure}_at_best_val"] = row[f"test/{figure}"]
        return improved
