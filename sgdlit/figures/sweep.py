"""The figures of a sweep file: points with intervals over what was varied, single runs faint behind them.

Drawn from stored results alone. Every number that is drawn is also in ``NAME.csv`` (points) and
``NAME_runs.csv`` (single runs), and the caption says what a point is and how many runs diverged.
"""

import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, binary_ticks, finish, label_short_log_axes, panels, save
from sgdlit.foundations.console import warn
from sgdlit.foundations.files import write_table
from sgdlit.sweeps.expressions import Expression, power_of_two, shown_number
from sgdlit.sweeps.options import FilledPanel, Line, Statistic, SweepOptions, panels_of
from sgdlit.sweeps.series import PointSummary, Series, SweepResults, panel_series
from sgdlit.sweeps.statistics import Summary, interval_in_words, rule_of
from sgdlit.sweeps.table import summary_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Drawn = Sequence[tuple[FilledPanel, Sequence[Series]]]  # the panels of a figure with their curves
Placed = Sequence[tuple[float, PointSummary]]  # the points of a curve with their place on the x axis

_CHARACTERS_PER_PANEL = 72  # of a caption
_CHARACTERS_OF_A_HEADING = 46


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
    caption = _caption(drawn)
    figure.supxlabel(textwrap.fill(caption, _CHARACTERS_PER_PANEL * columns), fontsize=7.5)
    for line in _tuning(drawn):
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
    places = _Places(panel, curves)
    placed = []
    for i, series in enumerate(curves):
        color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
        points = [(places.of(point.x), point) for point in series.points if places.has(point.x)]
        placed.append(points)
        label = _raised(series.label)
        if series.over_steps:
            _draw_over_steps(ax, points, panel, label, color)
        else:
            size = max(3.5, 7 - i)  # smaller and smaller, so that curves that coincide all show
            _draw_points(ax, points, panel, label, color, marker, size)
        _draw_lost(ax, points, color, i)
    for line, style in zip(panel.lines, ("--", ":", "-.") * len(panel.lines), strict=False):
        _draw_line(ax, line, placed, {"color": "black", "linestyle": style, "linewidth": 1})
    _finish(ax, panel, curves, places)


def _finish(ax: "Axes", panel: FilledPanel, curves: Sequence[Series], places: "_Places") -> None:
    """Title, labels, scales and ticks."""
    y_label = panel.y_label or ", ".join(dict.fromkeys(series.metric.words for series in curves))
    there = any(point.summary.center is not None for series in curves for point in series.points)
    log = panel.log.replace("none", "") if there else ""  # nothing has no logarithm
    if places.categories:
        log = log.replace("x", "")
    finish(ax, panel.title or "", panel.x_label or places.words, y_label, log=log)
    places.tick(ax)
    label_short_log_axes(ax)
    if panel.y_range is not None:
        ax.set_ylim(*panel.y_range)


def _draw_line(ax: "Axes", line: Line, curves: Sequence[Placed], look: dict[str, Any]) -> None:
    """A reference line; one through the first point is left out as long as there is none."""
    look = look | {"label": line.name}
    if line.y is not None:
        ax.axhline(line.y, **look)
    elif line.x is not None:
        ax.axvline(line.x, **look)
    elif line.power is not None:
        valued = [[(x, center) for x, center, _ in _valued(placed) if x > 0] for placed in curves]
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


def _on_binary_grid(value: float) -> bool:
    """Whether a value is a power of two, or one of three that divide an octave into equal ratios."""
    quarters = 4 * math.log2(value)
    return abs(quarters - round(quarters)) < 1e-6


class _Places:
    """Where on the x axis a value is drawn: at itself, or in its turn where values are no numbers."""

    def __init__(self, panel: FilledPanel, curves: Sequence[Series]) -> None:
        self.values = list(dict.fromkeys(point.x for series in curves for point in series.points))
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)
        self.categories = [] if numeric else self.values
        self._log = "x" in panel.log and numeric
        self.words = Expression(panel.x or panel.x_of(panel.curves[0]), "x").words
        lost = [v for v in self.values if not self.has(v)]
        if lost:
            warn(f"x = {', '.join(map(str, lost))} has no place on a logarithmic axis, and is not drawn")

    def has(self, value: Any) -> bool:
        return not self._log or value > 0

    def of(self, value: Any) -> float:
        return self.categories.index(value) if self.categories else value

    def tick(self, ax: "Axes") -> None:
        kept = [value for value in self.values if self.has(value)]
        if self.categories:
            ax.set_xticks(range(len(kept)), [str(value) for value in kept])
        elif self._log and all(_on_binary_grid(value) for value in kept):
            whole = [value for value in kept if power_of_two(value) is not None]
            if whole:
                binary_ticks(ax, whole)


def _draw_points(
    ax: "Axes", points: Placed, panel: FilledPanel, label: str, color: str, marker: str, size: float
) -> None:
    if panel.runs:
        single = [(x, run.value) for x, point in points for run in point.runs if run.value is not None]
        ax.plot(
            [x for x, _ in single], [value for _, value in single],
            marker, color=color, alpha=0.22, markersize=3, markeredgewidth=0, zorder=1,
        )  # fmt: skip
    there = _valued(points)
    ax.plot(
        [x for x, _, _ in there], [center for _, center, _ in there],
        color=color, marker=marker, markersize=size, linewidth=1.4, label=label, zorder=3,
        markeredgecolor="white", markeredgewidth=0.5,
    )  # fmt: skip
    barred = _intervals(points)
    if barred:
        xs, centers, lows, highs = map(np.array, zip(*barred, strict=True))
        ax.errorbar(
            xs, centers, [centers - lows, highs - centers],
            fmt="none", ecolor=color, capsize=2.5, elinewidth=1, zorder=2,
        )  # fmt: skip


def _draw_over_steps(ax: "Axes", points: Placed, panel: FilledPanel, label: str, color: str) -> None:
    if panel.runs and points:
        for seed in dict.fromkeys(run.seed for _, point in points for run in point.runs):
            own = [(x, r.value) for x, point in points for r in point.runs if r.seed == seed]
            single = [(x, value) for x, value in own if value is not None]
            ax.plot([x for x, _ in single], [v for _, v in single], color=color, alpha=0.25, lw=0.7, zorder=1)
    there = _valued(points)
    ax.plot([x for x, *_ in there], [c for _, c, _ in there], color=color, lw=1.6, label=label, zorder=3)
    banded = _intervals(points)
    if banded:
        xs, _, lows, highs = map(np.array, zip(*banded, strict=True))
        ax.fill_between(xs, lows, highs, color=color, alpha=0.15, linewidth=0, zorder=1)


def _draw_lost(ax: "Axes", points: Placed, color: str, i: int) -> None:
    """A cross at the upper edge for every x at which runs diverged or did not reach what was asked for."""
    lost = [x for x, point in points if any(run.value is None for run in point.runs)]
    if lost:
        height = 0.975 - 0.035 * i
        ax.plot(
            lost, [height] * len(lost), "x",
            color=color, markersize=5, transform=ax.get_xaxis_transform(), clip_on=False, zorder=4,
        )  # fmt: skip


# What is said about it


def _caption(drawn: Drawn) -> str:
    """What points, bars and crosses are."""
    shown = [(panel, point) for panel, curves in drawn for series in curves for point in series.points]
    points = [point for _, point in shown]
    rules = dict.fromkeys(_rule(panel.statistic, point.planned) for panel, point in shown)
    parts = [f"Points: {'; '.join(rules)}"]
    if any(panel.runs for panel, _ in drawn) and any(point.planned > 1 for point in points):
        parts.append("faint: single runs")
    for state in ("diverged", "not reached"):
        lost = {(repr(p.point), run.seed) for p in points for run in p.runs if run.state == state}
        if lost:
            what = "diverged" if state == "diverged" else "did not reach it"
            parts.append(f"x: runs that {what} ({len(lost)})")
    waiting = {repr(point.point): point.planned - len(point.runs) for point in points}
    if any(waiting.values()):
        parts.append(f"not run yet: {sum(waiting.values())}")
    tuned = dict.fromkeys(key for panel, _ in drawn for key in panel.tuned)
    if tuned:
        parts.append(f"best {' and '.join(tuned)} at each point")
    return "; ".join(parts) + "."


def _rule(statistic: Statistic, planned: int) -> str:
    interval = interval_in_words(statistic)
    bars = f", with {interval}" if interval and planned > 1 else ""
    return f"{rule_of(statistic, planned)}{' runs' if planned > 1 else ''}{bars}"


def _tuning(drawn: Drawn) -> list[str]:
    """The choices that tuning made, with their neighbours; a warning for each at the edge of its grid."""
    lines = []
    for series, point in ((s, p) for _, curves in drawn for s in curves for p in s.points):
        for key, choice in point.choices.items():
            place, value = f"{series.label}, x = {shown_number(point.x)}", shown_number(choice.chosen)
            beside = [f"{shown_number(v)}: {_shown(center)}" for v, center in choice.neighbours]
            others = f"beside it {', '.join(beside)}" if beside else "no other was tried"
            lines.append(f"{place}: best {key} {value}: {_shown(choice.center)} ({others})")
            if choice.at_edge:
                warn(f"{place}: the best {key}, {value}, lies at the edge of what was tried")
    return lines


def _shown(center: float | None) -> str:
    return "nothing" if center is None else f"{center:.4g}"


def _tables(drawn: Drawn) -> tuple[list[dict], list[dict]]:
    """Every point, and every single run, that is drawn."""
    points, runs = [], []
    for i, (panel, curves) in enumerate(drawn):
        for series in curves:
            for point in series.points:
                place = {"panel": panel.title or i, "curve": series.label, "metric": series.metric.words}
                place |= {"x_is": panel.x or "", "x": point.x}
                chosen = {f"best {key}": choice.chosen for key, choice in point.choices.items()}
                points.append({**place, **chosen, **summary_columns(point)})
                for run in point.runs:
                    runs.append({**place, "seed": run.seed, "state": run.state, "value": run.value})
    return points, runs
