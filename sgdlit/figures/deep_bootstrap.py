"""The deep bootstrap: test error in the real world, on n examples, and in the ideal one, on a stream."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from sgdlit.figures.style import COLORS, finish, panels, save
from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.runs.folder import write_atomically
from sgdlit.runs.metrics_file import MetricsFile
from sgdlit.training.ensemble import Ensemble

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = "data.shard_size"
SMALL = 0.01  # training error at which a run has fitted its examples
_LEVEL = 0.95


class DeepBootstrapFigure(Callback):
    """Draws ``deep_bootstrap.png`` when an ensemble over ``data.shard_size``, null for the ideal world, ends.

    It lies beside the run; the numbers that are drawn are in ``deep_bootstrap.csv``, see :func:`summarize`.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        sizes = [point.get(SIZE, 0) for point in pl_module.points] if isinstance(pl_module, Ensemble) else []
        if None not in sizes or all(size is None for size in sizes):
            raise UserError(
                "DeepBootstrapFigure: needs an ensemble over data.shard_size with null, the stream, among "
                "its values and at least one other"
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        tables = [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]
        if not trainer.is_global_zero or not tables or not tables[0].path.exists():
            return
        folder = tables[0].path.parent
        curves = summarize(tables[0].path, pl_module.points)
        if curves:
            write_table(folder / "deep_bootstrap.csv", curves)
            (path,) = save(draw(curves), folder, "deep_bootstrap", svg=False)
            say(f"drawn: {path}; the numbers are in {folder / 'deep_bootstrap.csv'}")
            for line in verdict(curves):
                say(line)


Curve = list[dict[str, float]]


def summarize(metrics: Path, points: Sequence[Mapping[str, Any]]) -> dict[int | None, Curve]:
    """For each number of examples (None for the ideal world), what its seeds had at each evaluation.

    A row has ``step``; ``error`` with ``error_low`` and ``error_high``, the soft error on the test set as
    mean and 95 % t-interval over seeds; the same of ``gap``, its difference to the ideal world of the same
    seed, the bootstrap error; and ``train_error``, the mean share of training examples misclassified.
    """
    seen: dict[int, dict[int, dict[str, float]]] = {}
    with metrics.open(newline="") as file:
        for row in csv.DictReader(file):
            if row.get("test/soft_error"):
                values = {name: float(row[name]) for name in row if row[name] and name != "member"}
                seen.setdefault(int(row["member"]), {})[int(row["step"])] = values
    worlds = dict.fromkeys(point[SIZE] for point in points)
    ideal = {_twin(points[k]): seen[k] for k in seen if points[k][SIZE] is None}
    return {size: _curve(size, points, seen, ideal) for size in worlds}


def _twin(point: Mapping[str, Any]) -> str:
    """What the worlds of one comparison have in common: all but what decides the number of examples."""
    return json.dumps({k: v for k, v in point.items() if k not in (SIZE, "data.evaluate_train")})


def _curve(size: int | None, points: Sequence, seen: Mapping, ideal: Mapping) -> Curve:
    members = [k for k in seen if points[k][SIZE] == size]
    rows = []
    for step in sorted({step for k in members for step in seen[k]}):
        here = [k for k in members if step in seen[k]]
        errors = [seen[k][step]["test/soft_error"] for k in here]
        twins = [(k, ideal.get(_twin(points[k]), {}).get(step)) for k in here]
        gaps = [seen[k][step]["test/soft_error"] - t["test/soft_error"] for k, t in twins if t is not None]
        row = {"step": step, **_interval("error", errors), **_interval("gap", gaps)}
        trained = [
            1 - seen[k][step]["train_set/accuracy"] for k in here if "train_set/accuracy" in seen[k][step]
        ]
        if trained:
            row["train_error"] = sum(trained) / len(trained)
        rows.append(row)
    return rows


def _interval(name: str, values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % t-interval; the interval of a single value is the value."""
    from scipy.stats import t

    if not values:
        return {}
    mean, n = sum(values) / len(values), len(values)
    half = 0.0
    if n > 1:
        deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
        half = float(t.ppf((1 + _LEVEL) / 2, n - 1)) * deviation / math.sqrt(n)
    return {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}


def fitted_at(curve: Curve) -> int | None:
    """The first evaluated step with a training error of at most 1 %; None if there is none."""
    return next((int(row["step"]) for row in curve if row.get("train_error", 1.0) <= SMALL), None)


def leaves_at(curve: Curve, by: float = 0.02) -> int | None:
    """The first evaluated step from which on the bootstrap error stays above ``by``; None if it does not."""
    found = None
    for row in reversed(curve):
        if row["gap"] <= by:
            break
        found = int(row["step"])
    return found


def verdict(curves: Mapping[int | None, Curve]) -> list[str]:
    """What the claims of the paper come to, a line for each number of examples."""
    lines = []
    for size, curve in curves.items():
        if size is not None:
            leaves, fitted = leaves_at(curve), fitted_at(curve)
            left = f"leaves the ideal world by 0.02 at step {leaves}" if leaves else "follows the ideal world"
            learned = (
                f"training error at most 1 % from step {fitted} on" if fitted else "training error > 1 %"
            )
            lines.append(f"n = {size}: {left}; {learned}; bootstrap error at the end {curve[-1]['gap']:.3f}")
    return lines


def write_table(path: Path, curves: Mapping[int | None, Curve]) -> None:
    rows = [{"n": size or "stream", **row} for size, curve in curves.items() for row in curve]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(columns), *(",".join(str(row.get(name, "")) for name in columns) for row in rows)]
    write_atomically(path, "\n".join(lines) + "\n")


def draw(curves: Mapping[int | None, Curve]) -> "Figure":
    """Test soft error and bootstrap error over steps, with intervals over seeds."""
    figure, (errors, gaps) = panels(1, 2, width=5.2, height=3.8)
    sizes = sorted(size for size in curves if size is not None)
    for size, color in zip([*sizes, None], [*COLORS[: len(sizes)], "black"], strict=True):
        label = "stream (ideal world)" if size is None else f"n = {size}"
        _band(errors, curves[size], "error", color, label, "--" if size is None else "-")
        if size is not None:
            _band(gaps, curves[size], "gap", color, label, "-")
            _dot(errors, curves[size], "error", color)
            _dot(gaps, curves[size], "gap", color)
    gaps.axhline(0, color="black", linestyle="--", linewidth=1)
    finish(errors, "Test error", "step", "soft error 1 − p_y on the test set", log="x")
    finish(gaps, "Bootstrap error", "step", "soft error minus that of the ideal world", log="x")
    for ax in (errors, gaps):
        ax.plot([], [], "o", color="grey", label="training error ≤ 1 %")
        ax.legend(fontsize=7.5, framealpha=0.9)
    return figure


def _band(ax: "Axes", curve: Curve, name: str, color: str, label: str, style: str) -> None:
    steps = [row["step"] for row in curve]
    ax.plot(steps, [row[name] for row in curve], style, color=color, label=label, linewidth=1.5)
    low, high = ([row[f"{name}_{end}"] for row in curve] for end in ("low", "high"))
    ax.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)


def _dot(ax: "Axes", curve: Curve, name: str, color: str) -> None:
    step = fitted_at(curve)
    row = next((row for row in curve if row["step"] == step), None)
    if row is not None:
        ax.plot(
            [step], [row[name]], "o", color=color, markersize=6, markeredgecolor="black", markeredgewidth=0.6
        )
