"""Loss and accuracy over whole evaluation sets, and the best that a run has reached in them."""

import math
from collections.abc import Iterable, Mapping

from torch import Tensor, nn
from torchmetrics import MeanMetric


class EvaluationMeans(nn.Module):
    """Loss and accuracy over a whole set: sums over examples and ranks, then one division."""

    def __init__(self) -> None:
        super().__init__()
        # torchmetrics would leave a NaN out of the mean, and so hide that a run has diverged.
        self.loss, self.accuracy = (MeanMetric(nan_strategy="disable") for _ in range(2))

    def add(self, losses: Tensor, correct: Tensor | None) -> None:
        """The losses of some examples, and whether each is classified correctly (None where nothing is)."""
        self.loss.update(losses.float())
        if correct is not None:
            self.accuracy.update(correct.float())

    def result(self, name: str) -> dict[str, float]:
        """Means under ``name/``, and a clean slate."""
        parts = {"loss": self.loss, "accuracy": self.accuracy}
        means = {f"{name}/{part}": float(m.compute()) for part, m in parts.items() if m.update_called}
        for metric in parts.values():
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
