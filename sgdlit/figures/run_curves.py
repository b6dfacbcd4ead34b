"""Training loss, C_reg and test accuracy over steps: of a run, of its members, or of several runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures import style
from sgdlit.runs.reading import Run, load_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = (
    ("train/loss", "training loss of minibatches", "C", ""),
    ("train/C_reg", "C_reg of minibatches", "C_reg = ¼‖∇Ĉ‖²", "y"),
    ("test/accuracy", "test accuracy", "share of test examples", ""),
)
_WINDOW = 9  # logged rows averaged in a minibatch curve
_SYMBOLS = {"model.reg_strength": "λ", "model.optimizer.lr": "ε", "data.batch_size": "B", "data.repeats": "n"}
Curve = tuple[str, Run, int | None]
"""A name, a run, and which of its members; None for a run that was trained alone."""


def draw(run: Run) -> "Figure | None":
    """The curves of a run, or of the members of an ensemble; None where nothing was logged yet."""
    if "step" not in run.metrics or not len(run.metrics["step"]):
        return None
    if run.alone:
        return _figure([("", run, None)])
    return _figure([(_words(member.point), run, k) for k, member in enumerate(run.members)])


def _words(point: dict) -> str:
    """``λ = 0.5, seed_everything = 1``."""
    return ", ".join(
        f"{_SYMBOLS.get(key) or key.rpartition('.')[2]} = {value:g}"
        if isinstance(value, float | int)
        else str(value)
        for key, value in point.items()
    )


def draw_runs(folders: Sequence[Path], names: Sequence[str], target: Path, svg: bool = False) -> list[Path]:
    """The curves of some runs, one colour per run; returns the files written."""
    curves: list[Curve] = [
        (name, load_run(folder), None) for folder, name in zip(folders, names, strict=True)
    ]
    return style.save(_figure(curves), target.parent, target.stem, svg)


def _figure(curves: Sequence[Curve]) -> "Figure":
    figure, axes = style.panels(1, len(PANELS))
    for ax, (column, title, label, log) in zip(axes, PANELS, strict=True):
        noisy = column.startswith("train/")
        for k, (name, run, member) in enumerate(curves):
            if column in run.metrics:
                steps, values = run.column(column, member)
                _draw(ax, steps, values, name, style.COLORS[k % len(style.COLORS)], noisy)
        title += f" (mean of {_WINDOW} logged)" if noisy else ""
        style.finish(ax, title, "step", label, legend=any(name for name, *_ in curves), log=log)
    return figure


def _draw(ax: "Axes", steps: np.ndarray, values: np.ndarray, name: str, color: str, noisy: bool) -> None:
    if noisy:
        ax.plot(steps, values, color=color, alpha=0.2, linewidth=0.6)
        ax.plot(steps, running_mean(values.tolist(), _WINDOW), color=color, linewidth=1.5, label=name)
    else:
        ax.plot(steps, values, color=color, linewidth=1.5, marker="o", markersize=3, label=name)


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean over up to ``window`` values that end at each place."""
    return [
        sum(part) / len(part) for part in (values[max(0, i + 1 - window) : i + 1] for i in range(len(values)))
    ]
