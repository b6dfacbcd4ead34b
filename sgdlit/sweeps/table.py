"""The table of a sweep: one row per point of every grid, as CSV and on the terminal."""

from typing import Any

from sgdlit.sweeps.expressions import shown_number
from sgdlit.sweeps.quantities import Metric, Statistic
from sgdlit.sweeps.series import PointSummary
from sgdlit.sweeps.statistics import interval_in_words


def rows_of(grids: dict[str, list[PointSummary]]) -> list[dict[str, Any]]:
    """One row per point: grid, the values of its axes, centre, interval, runs, rule."""
    return [
        {"grid": name, **point.point, **summary_columns(point)}
        for name, points in grids.items()
        for point in points
    ]


def summary_columns(point: PointSummary) -> dict[str, Any]:
    """The columns of a summary: an empty field where there is no number."""
    summary = point.summary
    states = [run.state for run in point.runs]
    return {
        "center": summary.center,
        "low": summary.low,
        "high": summary.high,
        "runs": summary.runs,
        "planned": point.planned,
        "diverged": states.count("diverged"),
        "not_reached": states.count("not reached"),
        "rule": summary.rule,
    }


def in_words(grids: dict[str, list[PointSummary]], metric: Metric, statistic: Statistic) -> str:
    """The table for the terminal, with what it shows above it."""
    interval = interval_in_words(statistic)
    head = metric.words + (f", difference from {statistic.baseline} by seed" if statistic.paired else "")
    head += f", with {interval}" if interval else ""
    return "\n".join([head, *(line for name, points in grids.items() for line in _grid(name, points))])


def _grid(name: str, points: list[PointSummary]) -> list[str]:
    keys = list(dict.fromkeys(key for point in points for key in point.point))
    lines = [[name if i == 0 else "", *_cells(keys, point)] for i, point in enumerate(points)]
    lines.insert(0, ["", *(key.rpartition(".")[2] for key in keys), "", "", ""])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(f"{text:{w}}" for text, w in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cells(keys: list[str], point: PointSummary) -> list[str]:
    summary = point.summary
    center = "-" if summary.center is None else f"{summary.center:.4g}"
    ends = ["?" if end is None else f"{end:.4g}" for end in (summary.low, summary.high)]
    interval = "" if ends == ["?", "?"] else f"[{ends[0]}, {ends[1]}]"
    return [*(shown_number(point.point[key]) for key in keys), center, interval, summary.rule]
