"""The figures of a sweep file: points with intervals over what was varied, single runs behind them.

Drawn from stored results alone. Every number that is drawn is also in ``NAME.csv`` (points) and
``NAME_runs.csv`` (single runs), and the caption says what a point is and how many runs diverged.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdlit.config.words import key_in_words
from sgdlit.figures import colors
from sgdlit.figures.style import COLORS, MARKERS, finish, label_short_log_axes, panels, save
from sgdlit.figures.sweep_caption import Drawn, caption, tuning
from sgdlit.figures.value_axis import ValueAxis
from sgdlit.foundations.files import write_table
from sgdlit.sweeps.expressions import Expression
from sgdlit.sweeps.options import FilledPanel, Line, SweepOptions, panels_of
from sgdlit.sweeps.series import PointSummary, Series, SweepResults, panel_series
from sgdlit.sweeps.statistics import Summary
from sgdlit.sweeps.table import summary_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Placed = Sequence[tuple[float, PointSummary]]  # the points of a curve with their place on the x axis

_CHARACTERS_PER_PANEL = 72  # of a caption
_CHARACTERS_OF_A_HEADING = 46
_LOST = "0.6"  # the colour of marks of a curve without points
_STYLES = ("-", "--", ":")
_BESIDE = 5  # points to the right of a bar, where single runs are drawn


@dataclass(frozen=True)
class _Look:
    """How a curve is drawn."""

    color: str
    marker: str
    size: float
    line: str
    label: str | None


def draw(name: str, options: SweepOptions, results: SweepResults, folder: Path, svg: bool) -> list[Path]:
    """Draw one figure of a sweep file and write its numbers; the files that were written.

    Raises:
        UserError: the figure asks for a key, a grid or a metric that there is not.
    """
    described = panels_of(options, name)
    drawn = [(panel, panel_series(results, panel, where)) for where, panel in described]
    columns = min(len(drawn), max(1, options.figures[name].columns))
    rows = -(-len(drawn) // columns)
    figure, axes = panels(rows, columns, width=4.6, height=3.6)
    for ax, (panel, series) in zip(axes, drawn, strict=False):
        draw_panel(ax, panel, series)
    for ax in axes[len(drawn) :]:
        ax.remove()
    heading = options.figures[name].heading
    if heading:
        figure.suptitle(textwrap.fill(heading, _CHARACTERS_OF_A_HEADING * columns), fontsize=11)
    figure.supxlabel(textwrap.fill(caption(drawn), _CHARACTERS_PER_PANEL * columns), fontsize=7.5)
    for line in tuning(drawn):
        print(line)
    folder.mkdir(parents=True, exist_ok=True)
    points, runs = _tables(drawn)
    return [
        *save(figure, folder, name, svg),
        write_table(folder / f"{name}.csv", points),
        write_table(folder / f"{name}_runs.csv", runs),
    ]


# One panel


def draw_panel(ax: "Axes", panel: FilledPanel, curves: Sequence[Series]) -> None:
    """The curves of one panel, their reference lines, and its axes."""
    axis = ValueAxis([point.x for series in curves for point in series.points], "x" in panel.log)
    placed = []
    for i, (series, look) in enumerate(zip(curves, _looks(ax, panel, curves), strict=True)):
        points = [(axis.of(point.x), point) for point in series.points if axis.has(point.x)]
        placed.append(points)
        (_draw_over_steps if series.over_steps else _draw_points)(ax, points, panel, look, axis.zero)
        _draw_lost(ax, points, look.color, i)
    for line, style in zip(panel.lines, ("--", ":", "-.") * len(panel.lines), strict=False):
        _draw_line(ax, line, placed, {"color": "black", "linestyle": style, "linewidth": 1})
    if panel.statistic.paired:
        ax.axhline(0, color="0.4", linewidth=0.8, zorder=0)
    _finish(ax, panel, curves, axis)


def _looks(ax: "Axes", panel: FilledPanel, curves: Sequence[Series]) -> list[_Look]:
    """Colours by name, with a legend; by value, with a colour bar, where a number tells many curves apart."""
    values = [series.by[1] for series in curves if series.by is not None]
    keys = {series.by[0] for series in curves if series.by is not None}
    possible = len(keys) == 1 and len(values) == len(curves) > 1 and colors.are_numbers(values)
    by_value = possible and (len(curves) > len(COLORS) if panel.color_bar is None else panel.color_bar)
    if by_value:
        (key,) = keys
        shown = [value for value, series in zip(values, curves, strict=True) if _shows(series)] or values
        colors.add_color_bar(ax, shown, key_in_words(key))
        each = dict(zip(shown, colors.of_values(shown), strict=True))
        return [_Look(each.get(value, _LOST), MARKERS[0], 3.5, "-", None) for value in values]
    largest = 7 if len(curves) < 3 else 9
    return [
        _Look(
            color, MARKERS[i % len(MARKERS)],
            max(3.5, largest - 2 * i),  # smaller and smaller, so that curves that coincide all show
            _STYLES[i // len(COLORS) % len(_STYLES)], _raised(series.label),
        )
        for i, (series, color) in enumerate(zip(curves, colors.of_names(len(curves)), strict=True))
    ]  # fmt: skip


def _shows(series: Series) -> bool:
    """Whether a curve has a point: one of which all runs diverged must not stretch the colours."""
    return any(point.summary.center is not None for point in series.points)


def _finish(ax: "Axes", panel: FilledPanel, curves: Sequence[Series], axis: ValueAxis) -> None:
    """Title, labels, scales and ticks."""
    y_label = panel.y_label or ", ".join(dict.fromkeys(series.metric.words for series in curves))
    if panel.statistic.paired and panel.y_label is None:
        y_label += f",\ndifference from {panel.statistic.baseline}"
    x_label = panel.x_label or Expression(panel.x or panel.x_of(panel.curves[0]), "x").words
    shown = [value for series in curves for point in series.points for value in _heights(point, panel)]
    log = panel.log.replace("none", "") if shown else ""  # nothing has no logarithm
    if not axis.log:
        log = log.replace("x", "")
    named = bool(ax.get_legend_handles_labels()[1])
    crossing = "y" in log and min(shown) <= 0
    finish(
        ax, panel.title or "", x_label, y_label, legend=named, log=log.replace("y", "") if crossing else log
    )
    if crossing:
        positive = [abs(value) for value in shown if value != 0]
        ax.set_yscale("symlog", linthresh=min(positive, default=1.0))
    axis.tick(ax)
    label_short_log_axes(ax)
    if panel.y_range is not None:
        ax.set_ylim(*panel.y_range)


def _heights(point: PointSummary, panel: FilledPanel) -> list[float]:
    """What is drawn of a point: its centre and, where they are shown, its runs."""
    single = [run.value for run in point.runs] if panel.runs else []
    return [value for value in (point.summary.center, *single) if value is not None]


def _draw_line(ax: "Axes", line: Line, curves: Sequence[Placed], look: dict[str, Any]) -> None:
    """A reference line; one through the first point is left out as long as there is none."""
    look = look | {"label": line.name}
    if line.y is not None:
        ax.axhline(line.y, **look)
    elif line.x is not None:
        ax.axvline(line.x, **look)
    elif line.power is not None:
        beyond = [[(x, point) for x, point in placed if point.x > 0] for placed in curves]
        valued = [[(x, center) for x, center, _ in _valued(placed)] for placed in beyond]
        if valued[0]:
            (first, center), last = valued[0][0], max(x for placed in valued for x, _ in placed)
            xs = np.geomspace(first, last)
            ax.plot(xs, center * (xs / first) ** line.power, **look)


def _valued(points: Placed) -> list[tuple[float, float, Summary]]:
    """The points that show something: x, centre and summary."""
    return [(x, center, p.summary) for x, p in points if (center := p.summary.center) is not None]


def _intervals(points: Placed) -> list[tuple[float, float, float, float]]:
    """The points that have an interval: x, centre and both ends."""
    valued = _valued(points)
    return [(x, c, s.low, s.high) for x, c, s in valued if s.low is not None and s.high is not None]


def _raised(label: str) -> str:
    """``2^-6`` with its exponent raised, as the labels of axes have it."""
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return re.sub(r"\^(-?\d+)", lambda power: power[1].translate(digits), label)


def _parted(xs: Sequence[float], ys: Sequence[float], gap: float | None) -> tuple[list[float], list[float]]:
    """The corners of a line, which is broken behind a point at the place of 0."""
    corners = list(zip(xs, ys, strict=True))
    if gap is not None and corners and corners[0][0] == gap:
        corners.insert(1, (gap, float("nan")))
    return [x for x, _ in corners], [y for _, y in corners]


def _draw_points(ax: "Axes", points: Placed, panel: FilledPanel, look: _Look, gap: float | None) -> None:
    from matplotlib.transforms import ScaledTranslation

    if panel.runs:
        single = [(x, r.value) for x, p in points if p.planned > 1 for r in p.runs if r.value is not None]
        ax.plot(
            [x for x, _ in single], [value for _, value in single],
            "o", color=look.color, alpha=0.55, markersize=3, markeredgewidth=0, zorder=1,
            transform=ax.transData + ScaledTranslation(_BESIDE / 72, 0, ax.figure.dpi_scale_trans),
        )  # fmt: skip
    there = _valued(points)
    ax.plot(
        *_parted([x for x, _, _ in there], [center for _, center, _ in there], gap),
        color=look.color, marker=look.marker, markersize=look.size, linewidth=1.4, linestyle=look.line,
        label=look.label, zorder=3, markeredgecolor="white", markeredgewidth=0.5,
    )  # fmt: skip
    barred = _intervals(points)
    if barred:
        xs, centers, lows, highs = map(np.array, zip(*barred, strict=True))
        ax.errorbar(
            xs, centers, [centers - lows, highs - centers],
            fmt="none", ecolor=look.color, capsize=2.5, elinewidth=1, zorder=2,
        )  # fmt: skip


def _draw_over_steps(ax: "Axes", points: Placed, panel: FilledPanel, look: _Look, gap: float | None) -> None:
    if panel.runs and points and points[0][1].planned > 1:
        for seed in dict.fromkeys(run.seed for _, point in points for run in point.runs):
            own = [(x, r.value) for x, point in points for r in point.runs if r.seed == seed]
            single = [(x, value) for x, value in own if value is not None]
            ax.plot(
                *_parted([x for x, _ in single], [v for _, v in single], gap),
                color=look.color, alpha=0.45, linewidth=0.7, zorder=1,
            )  # fmt: skip
    there = _valued(points)
    ax.plot(
        *_parted([x for x, *_ in there], [c for _, c, _ in there], gap),
        color=look.color, linewidth=1.6, linestyle=look.line, label=look.label, zorder=3,
        marker="." if len(there) < 3 else "",  # a point alone is no line
    )  # fmt: skip
    banded = _intervals(points)
    if banded:
        xs, _, lows, highs = map(np.array, zip(*banded, strict=True))
        ax.fill_between(xs, lows, highs, color=look.color, alpha=0.15, linewidth=0, zorder=1)


def _draw_lost(ax: "Axes", points: Placed, color: str, i: int) -> None:
    """A cross at the upper edge for every x at which runs diverged or did not reach what was asked for."""
    lost = [x for x, point in points if any(run.value is None for run in point.runs)]
    if lost:
        height = 0.975 - 0.035 * i
        ax.plot(
            lost, [height] * len(lost), "x",
            color=color, markersize=5, transform=ax.get_xaxis_transform(), clip_on=False, zorder=4,
        )  # fmt: skip


def _tables(drawn: Drawn) -> tuple[list[dict], list[dict]]:
    """Every point, and every single run, that is drawn."""
    points, runs = [], []
    for i, (panel, curves) in enumerate(drawn):
        for series in curves:
            for point in series.points:
                place = {"panel": panel.title or i, "curve": series.label, "metric": series.metric.logged}
                place |= {"x_is": panel.x or "", "x": point.x}
                chosen = {f"best {key}": choice.chosen for key, choice in point.choices.items()}
                points.append({**place, **chosen, **summary_columns(point)})
                for run in point.runs:
                    runs.append({**place, "seed": run.seed, "state": run.state, "value": run.value})
    return points, runs
