"""The error of a run on matrix sensing over the samples that it has seen, beside the baseline."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Callback, LightningModule, Trainer

from sgdlit.figures.style import COLORS, finish, panels, save
from sgdlit.foundations.console import say
from sgdlit.runs.metrics_file import MetricsFile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Minimum-norm least squares, which has no prior on the rank, from half as many measurements as T has
# entries: it finds the projection of T on a random half of the space, and misses √½ of its norm.
BASELINE = 0.5**0.5

_ERRORS = {
    "sensing/relative_error": ("‖M − T‖ / ‖T‖", BASELINE, "0.707"),
    "sensing/relative_squared_error": ("Σ(y − p)² / Σy², unseen minibatches", BASELINE**2, "0.707² = 0.5"),
}


class SensingFigure(Callback):
    """Draws ``sensing.png`` beside the run when it ends, from its ``metrics.csv``; see :func:`draw`."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        tables = [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]
        if not trainer.is_global_zero or not tables or not tables[0].path.exists():
            return
        rows = read_rows(tables[0].path)
        if rows:
            (path,) = save(draw(rows), tables[0].path.parent, "sensing", svg=False)
            say(f"drawn: {path}")


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a run's ``metrics.csv`` that :class:`SensingReport` wrote: only the columns they have."""
    with path.open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [row for row in rows if any(name in row for name in _ERRORS)]


def draw(rows: Sequence[dict[str, float]]) -> "Figure":
    """Error over samples with the least-squares baseline and, where there are any, the singular values of the
    network's matrix with those of T as lines; of an ensemble, the errors of all members and the values of the
    first."""
    name = next(name for name in _ERRORS if name in rows[0])
    members = {k: [row for row in rows if _member(row) == k] for k in sorted({_member(r) for r in rows})}
    spectra = [row for row in next(iter(members.values())) if "sensing/singular_value_1" in row]
    figure, axes = panels(1, 2 if spectra else 1, width=5.2, height=3.8)
    label, baseline, value = _ERRORS[name]
    several = len(members) > 1
    for k, own in members.items():
        named = f"{len(members)} trained networks" if several else "trained network"
        axes[0].plot([row["sensing/samples"] for row in own], [row[name] for row in own], color=COLORS[0],
                     label=named if k == min(members) else None, alpha=0.4 if several else 1)  # fmt: skip
    axes[0].axhline(baseline, color=COLORS[6], linestyle="--", linewidth=1,
                    label=f"least squares, d²/2 samples: {value}")  # fmt: skip
    finish(axes[0], "Matrix sensing", "samples seen, each once", label, log="y")
    if spectra:
        _draw_spectra(axes[1], spectra)
    return figure


def _member(row: dict[str, float]) -> float:
    return row.get("member", 0)


def _draw_spectra(ax: "Axes", rows: Sequence[dict[str, float]]) -> None:
    samples = [row["sensing/samples"] for row in rows]
    count = sum(name.startswith("sensing/singular_value_") for name in rows[0])
    for k in range(1, count + 1):
        color = COLORS[(k - 1) % len(COLORS)]
        values = [row[f"sensing/singular_value_{k}"] for row in rows]
        ax.plot(samples, values, color=color, marker=".", label=f"σ{k} of the network")
        ax.axhline(rows[0][f"sensing/target_singular_value_{k}"], color=color, linestyle="--", linewidth=1)
    finish(ax, "Singular values (dashed: those of T)", "samples seen, each once", "singular value", log="")
