"""Training loss, C_reg and test accuracy over steps: of a run, of its members, or of several runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures import style
from sgdlit.figures.colors import of_names
from sgdlit.figures.members import groups_of
from sgdlit.figures.style import COLORS
from sgdlit.runs.reading import Run, load_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_TRAINING = (
    ("train/loss", "training loss of minibatches", "C"),
    ("train/C_reg", "C_reg of minibatches", "C_reg = ¼‖∇Ĉ‖²"),
)
_EVALUATIONS = (
    ("test/accuracy", "test accuracy", "share of test examples"),
    ("val/accuracy", "validation accuracy", "share of validation examples"),
    ("test/loss", "test loss", "C"),
    ("val/loss", "validation loss", "C"),
)  # the first that a run has is drawn
_LOG_FROM = 20.0  # the span from which what is positive has a logarithmic axis
_WINDOW = 9  # logged rows of which a minibatch curve shows the median
Shown = tuple[str, Run, int | None]
"""A name, a run, and which of its members; None for a run that was trained alone."""


def draw(run: Run) -> "Figure | None":
    """The curves of a run, or of the members of an ensemble; None where nothing was logged yet."""
    if "step" not in run.metrics or not len(run.metrics["step"]):
        return None
    if run.alone:
        return _figure([("", run, None)], COLORS[:1])
    groups = groups_of([member.point for member in run.members])
    named = [groups.is_first(k) and groups.key is None for k in range(len(run.members))]
    curves: list[Shown] = [(groups.names[k] if first else "", run, k) for k, first in enumerate(named)]
    figure = _figure(curves, groups.colors)
    groups.explain(figure.axes[-1])
    return figure


def draw_runs(folders: Sequence[Path], names: Sequence[str], target: Path, svg: bool = False) -> list[Path]:
    """The curves of some runs, one colour per run; returns the files written."""
    curves: list[Shown] = [
        (name, load_run(folder), None) for folder, name in zip(folders, names, strict=True)
    ]
    return style.save(_figure(curves, of_names(len(curves))), target.parent, target.stem, svg)


def _figure(curves: Sequence[Shown], colors: Sequence[str]) -> "Figure":
    logged = {column for _, run, _ in curves for column in run.metrics}
    evaluated = [panel for panel in _EVALUATIONS if panel[0] in logged][:1]
    shown = [*(panel for panel in _TRAINING if panel[0] in logged), *evaluated]
    figure, axes = style.panels(1, max(1, len(shown)))
    diverged = [
        run.state == "diverged" if k is None else run.members[k].state == "diverged" for _, run, k in curves
    ]
    for ax, (column, title, label) in zip(axes, shown, strict=False):
        rows = [len(run.column(column, member)[0]) for _, run, member in curves if column in run.metrics]
        noisy = column.startswith("train/") and max(rows) >= 2 * _WINDOW
        kept: list[Line2D] = []
        for color, lost, (name, run, member) in zip(colors, diverged, curves, strict=True):
            if column in run.metrics:
                steps, values = run.column(column, member)
                drawn = _draw(ax, steps, values, name, color, noisy)
                kept += [] if lost else drawn
        title += f" (median of {_WINDOW} logged)" if noisy else ""
        named = any(name for name, *_ in curves)
        style.finish(
            ax, title, "step", label, legend=named, log="y" if _wide(style.fit_axes(ax, kept)) else ""
        )
        style.label_short_log_axes(ax)
    _same_steps(axes[: len(shown)])
    if words := style.fitted_words(sum(diverged), len(diverged)):
        figure.suptitle(words, fontsize=10)
    return figure


def _draw(
    ax: "Axes", steps: np.ndarray, values: np.ndarray, name: str, color: str, noisy: bool
) -> "list[Line2D]":
    label = name or None
    if noisy:
        each = ax.plot(steps, values, color=color, alpha=0.35, linewidth=0.6)
        median = running_median(values, _WINDOW)
        return [*each, *ax.plot(steps, median, color=color, linewidth=1.5, label=label)]
    return ax.plot(steps, values, color=color, linewidth=1.5, marker="o", markersize=3, label=label)


def _wide(lines: "Sequence[Line2D]") -> bool:
    """Whether what these show is positive, and spans more than a factor of 20."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in lines] or [np.ones(1)])
    values = values[np.isfinite(values)]
    return bool(len(values)) and values.min() > 0 and values.max() > _LOG_FROM * values.min()


def running_median(values: np.ndarray, window: int) -> np.ndarray:
    """Median over ``window`` values around each place, fewer at the ends: one leap moves none; ``[n]``."""
    half = window // 2
    return np.array([np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))])


def _same_steps(axes: "Sequence[Axes]") -> None:
    """Give panels over steps the same range of them."""
    ends = [ax.get_xlim() for ax in axes]
    for ax in axes:
        ax.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
