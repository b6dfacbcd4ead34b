"""One look for all figures: theory is a line, a measurement is a point with its spread.

matplotlib is imported inside the functions, so that importing this costs nothing. Figures are built on the
Agg canvas without pyplot, so that no global state and no display is needed.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Okabe and Ito's palette, which stays distinct for colour-blind readers.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DPI = 150


def panels(rows: int, columns: int, width: float = 4.2, height: float = 3.4) -> tuple["Figure", list["Axes"]]:
    """A figure with rows × columns axes, listed row by row; sizes in inches per panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def finish(ax: "Axes", title: str, x: str, y: str, legend: bool = True, log: str = "xy") -> None:
    """Title, named axes, logarithmic scales ("x", "y", "xy" or ""), light grid, a legend of labels."""
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    ax.set_title(title, fontsize=10)
    ax.set_xlabel(x, fontsize=9)
    ax.set_ylabel(y, fontsize=9)
    ax.tick_params(which="both", labelsize=8)
    ax.grid(True, which="major", alpha=0.3, linewidth=0.6)
    if legend and ax.get_legend_handles_labels()[0]:
        # The place is named, since matplotlib warns of the default one where a busy machine takes long.
        ax.legend(fontsize=7.5, framealpha=0.9, loc="best")


def fit_axes(ax: "Axes", kept: "Sequence[Line2D]") -> "list[Line2D]":
    """Let both axes fit these lines alone; others, such as those of runs that diverged, may leave the panel.

    Returns:
        The lines that the axes fit: those given, or all where those show nothing.
    """
    import numpy as np

    lines = list(ax.lines)
    if not any(np.isfinite(np.asarray(line.get_ydata(), float)).any() for line in kept):
        return lines
    seen = [line.get_visible() for line in lines]
    for line in lines:
        line.set_visible(line in kept)
    ax.relim(visible_only=True)
    ax.autoscale_view()
    for line, visible in zip(lines, seen, strict=True):
        line.set_visible(visible)
    return list(kept)


def fitted_words(lost: int, count: int) -> str:
    """What a picture says where some of its runs diverged: ``2 of 8 diverged; the axes fit the others``."""
    return f"{lost} of {count} diverged; the axes fit the others" if 0 < lost < count else ""


def binary_ticks(ax: "Axes", values: Iterable[float]) -> None:
    """Ticks 2ᵏ on a logarithmic x axis at the given powers of two."""
    import math

    exponents = sorted({round(math.log2(v)) for v in values})
    exponents = exponents[:: 1 + len(exponents) // 18]  # labels must not touch
    ax.set_xticks([2.0**k for k in exponents], [f"$2^{{{k}}}$" for k in exponents])
    ax.xaxis.minorticks_off()


def label_short_log_axes(ax: "Axes") -> None:
    """Also ticks between powers of ten have labels where a logarithmic y axis spans hardly more than one."""
    from matplotlib.ticker import LogFormatterSciNotation

    if ax.get_yscale() == "log":
        ax.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(1.5, 0.4)))


def save(figure: "Figure", folder: Path, name: str, svg: bool) -> list[Path]:
    """Writes NAME.png, and NAME.svg if asked; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png"] + ([folder / f"{name}.svg"] if svg else [])
    for path in paths:
        figure.savefig(path, dpi=DPI)
    return paths


def select(rows: Sequence[dict], **wanted: object) -> list[dict]:
    """The rows whose columns have the wanted values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def distinct(rows: Sequence[dict], column: str) -> list:
    """The values of a column, each once, in order of appearance."""
    return list(dict.fromkeys(row[column] for row in rows))
