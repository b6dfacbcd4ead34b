"""What is said about the figure of a sweep: what points, bars and crosses are, and what tuning chose."""

from collections.abc import Sequence

from sgdlit.config.words import symbol
from sgdlit.foundations.console import warn
from sgdlit.sweeps.expressions import shown_number
from sgdlit.sweeps.options import FilledPanel
from sgdlit.sweeps.quantities import Statistic
from sgdlit.sweeps.series import PointSummary, Series
from sgdlit.sweeps.statistics import interval_in_words, rule_of

Drawn = Sequence[tuple[FilledPanel, Sequence[Series]]]
"""The panels of a figure with their curves."""


def caption(drawn: Drawn) -> str:
    """What points, lines, bars, bands and crosses are."""
    shown = [
        (panel, series.over_steps, point)
        for panel, curves in drawn
        for series in curves
        for point in series.points
    ]
    points = [point for *_, point in shown]
    parts = list(dict.fromkeys(_rule(panel.statistic, over, point) for panel, over, point in shown))
    if any(panel.runs for panel, _ in drawn) and any(point.planned > 1 for point in points):
        kinds = dict.fromkeys("thin lines" if over else "small points" for _, over, _ in shown)
        single = "single differences" if any(panel.statistic.paired for panel, _ in drawn) else "single runs"
        parts.append(f"{' and '.join(kinds)}: {single}")
    parts += _lost(drawn)
    waiting = {repr(point.point): point.planned - len(point.runs) for point in points}
    if any(waiting.values()):
        parts.append(f"not run yet: {sum(waiting.values())}")
    tuned = dict.fromkeys(symbol(key) for panel, _ in drawn for key in panel.tuned)
    if tuned:
        parts.append(f"each at its best {_and(list(tuned))}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _lost(drawn: Drawn) -> list[str]:
    """What crosses are, and how many runs each stands for."""
    told = {
        "diverged": "runs that diverged",
        "not reached": "runs that did not reach it",
        "baseline diverged": "runs whose partner diverged",
        "baseline not reached": "runs whose partner did not reach it",
    }
    runs = {
        (run.state, series.label, repr(point.point), run.seed)
        for _, curves in drawn
        for series in curves
        for point in series.points
        for run in point.runs
    }
    runs_of = {state: {own[2:] for own in runs if own[0] == state} for state in told}
    return [f"×: {words} ({len(runs_of[state])})" for state, words in told.items() if runs_of[state]]


def _rule(statistic: Statistic, over_steps: bool, point: PointSummary) -> str:
    """``points: mean of 5 runs, bars: 95 % t-interval``."""
    what, around = ("lines", "bands") if over_steps else ("points", "bars")
    if point.planned == 1 and not statistic.paired:
        return f"{what}: a single run each"
    rule = rule_of(statistic, point.planned) + ("" if statistic.paired else " runs")
    if statistic.paired:
        rule += f" from {statistic.baseline} at equal seeds"
    interval = interval_in_words(statistic)
    return f"{what}: {rule}" + (f", {around}: {interval}" if interval and point.planned > 1 else "")


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def tuning(drawn: Drawn) -> list[str]:
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
