"""Loss and accuracy over whole evaluation sets, and the best that a run has reached in them."""

import math
from collections.abc import Iterable, Mapping

from torch import Tensor, nn
from torchmetrics import MeanMetric

from sgdlit.measures.soft_error import soft_error
from sgdlit.objectives import CrossEntropy, Loss

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


class EvaluationMeans(nn.Module):
    """The means of one evaluation set: sums over examples and ranks, then one division."""

    def __init__(self) -> None:
        super().__init__()
        # torchmetrics would leave a NaN out of the mean, and so hide that a run has diverged.
        self.means = nn.ModuleDict({name: MeanMetric(nan_strategy="disable") for name in MEANS})

    def add(self, found: Mapping[str, Tensor]) -> None:
        """What :func:`evaluate` found of some examples."""
        for name, values in found.items():
            self.means[name].update(values.float())

    def result(self, name: str) -> dict[str, float]:
        """Means under ``name/``, and a clean slate."""
        means = {f"{name}/{k}": float(m.compute()) for k, m in self.means.items() if m.update_called}
        for metric in self.means.values():
            metric.reset()
        return means


class Records:
    """The best of each evaluation set so far: highest accuracy, or lowest loss where nothing is classified.

    ``best`` has ``test/highest_accuracy`` (the metric of Smith et al. 2021) and, apart from it,
    ``test/accuracy_at_best_val``, that of the parameters which validation chose.
    """

    def __init__(self, best: Mapping[str, float] | None = None) -> None:
        self.best = dict(best or {})

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
