"""The curves of some runs beside each other, from their ``metrics.csv``."""

from collections.abc import Sequence
from pathlib import Path

from sgdlit.figures import style
from sgdlit.runs.reading import load_run

PANELS = (
    ("train/loss", "training loss of minibatches", ""),
    ("train/C_reg", "C_reg = ¼‖∇Ĉ‖² of minibatches", "y"),
    ("test/accuracy", "test accuracy", ""),
)
_WINDOW = 9  # logged rows averaged in a minibatch curve


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean over up to ``window`` values that end at each place."""
    return [
        sum(part) / len(part) for part in (values[max(0, i + 1 - window) : i + 1] for i in range(len(values)))
    ]


def draw_runs(folders: Sequence[Path], names: Sequence[str], target: Path, svg: bool = False) -> list[Path]:
    """Training loss, C_reg and test accuracy over steps, one colour per run; returns the files written."""
    figure, axes = style.panels(1, len(PANELS))
    for ax, (column, title, log) in zip(axes, PANELS, strict=True):
        noisy = column.startswith("train/")
        for folder, name, color in zip(folders, names, style.COLORS, strict=False):
            steps, values = (part.tolist() for part in load_run(folder).column(column))
            if noisy:
                ax.plot(steps, values, color=color, alpha=0.2, linewidth=0.6)
            shown = running_mean(values, _WINDOW) if noisy else values
            marker = None if noisy else "o"
            ax.plot(steps, shown, color=color, linewidth=1.5, marker=marker, markersize=3, label=name)
        style.finish(ax, title + (f" (mean of {_WINDOW} logged)" if noisy else ""), "step", column, log=log)
    return style.save(figure, target.parent, target.stem, svg)
