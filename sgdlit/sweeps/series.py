"""What a sweep shows: the runs of every point, the metric of each, and one summary of them.

From a plan and a store alone. ``table`` is every point of every grid; ``panel_series`` are the curves of one
panel of a figure, laid out by ``layout``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sgdlit.config.sections import check_name
from sgdlit.foundations.console import warn
from sgdlit.foundations.errors import UserError
from sgdlit.sweeps.baselines import Baselines
from sgdlit.sweeps.layout import Layout, by_point, layouts, tuned_values
from sgdlit.sweeps.options import FilledPanel
from sgdlit.sweeps.plan import Cell, Plan, stored_plan
from sgdlit.sweeps.quantities import Metric, Statistic
from sgdlit.sweeps.statistics import Choice, Summary, choose, summarise
from sgdlit.sweeps.store import DamagedCurve, Result, Store


@dataclass(frozen=True)
class RunValue:
    """The metric of one run: ``value`` is None where ``state`` is not ``finished``."""

    seed: int
    state: str  # finished, diverged, not reached; with "baseline" before it that of the run's partner
    value: float | None


@dataclass(frozen=True)
class PointSummary:
    """The runs of one point.

    Args:
        x: where it is drawn; None in a table.
        point: the values of its axes.
        runs: its finished runs.
        planned: how many runs it is to have.
        summary: what they say together.
        choices: the values that tuning took, by key.
    """

    x: Any
    point: dict[str, Any]
    runs: list[RunValue]
    planned: int
    summary: Summary
    choices: dict[str, Choice] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """One curve: its name, its points in order of x, what they show, and whether x counts steps."""

    label: str
    points: list[PointSummary]
    metric: Metric
    over_steps: bool
    by: tuple[str, Any] | None = None  # key and value of a curve that is one of several


class SweepResults:
    """The stored runs of a plan, by their key in ``by_key``; ``damaged`` are files that hold none."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.by_key, self.damaged = store.read()
        self._others: dict[str, SweepResults] = {}

    def of(self, sweep: str | None) -> "SweepResults":
        """Those of the sweep in another folder; of this one for None.

        Raises:
            UserError: there is no sweep.
        """
        if sweep is None:
            return self
        if sweep not in self._others:
            store = Store(Path(sweep))
            plan = stored_plan(store)
            if plan is None:
                raise UserError(f"{Path(sweep) / 'plan.json'}: missing or damaged; run that sweep first")
            self._others[sweep] = SweepResults(plan, store)
        return self._others[sweep]

    @cached_property
    def _baselines(self) -> Baselines:
        return Baselines(self.plan)

    @property
    def count(self) -> int:
        """How many cells have a result."""
        return sum(cell.key in self.by_key for cell in self.plan.cells)

    def run(self, cell: Cell, metric: Metric) -> RunValue | None:
        """The metric of one cell; None where the cell has not been run.

        Raises:
            UserError: the run has no such metric.
        """
        result = self.by_key.get(cell.key)
        if result is None:
            return None
        if result.state == "diverged":
            return RunValue(cell.seed, "diverged", None)
        try:
            value = self._value(result, metric)
        except DamagedCurve as error:
            self._leave_out(cell, error)
            return None
        return RunValue(cell.seed, "finished" if value is not None else "not reached", value)

    def difference(self, cell: Cell, metric: Metric, statistic: Statistic) -> RunValue | None:
        """The metric of a cell, or its difference to that of the cell's baseline where runs are paired."""
        run = self.run(cell, metric)
        if run is None or not statistic.paired:
            return run
        return _difference(run, self.run(self._baselines.of(cell, statistic.paired), metric))

    def are_baselines(self, cells: Sequence[Cell], statistic: Statistic) -> bool:
        """Whether these cells are those with which others are paired."""
        paired = statistic.paired
        return bool(paired) and all(self._baselines.of(cell, paired).key == cell.key for cell in cells)

    def _value(self, result: Result, metric: Metric) -> float | None:
        check_name(
            metric.name, result.metrics, "metric", f"{metric.name!r} was not logged by run {result.key}"
        )
        if metric.value is None:  # final, lowest, highest
            return result.metrics[metric.name].get(metric.when)
        steps, values = self.store.curve(result.key, metric.name)
        if metric.when == "mean_of_last":
            mean = float(np.mean(values[-int(metric.value) :]))
            return mean if math.isfinite(mean) else None
        there = values <= metric.value if metric.when == "first_step_at_or_below" else values >= metric.value
        return float(steps[there.argmax()]) if there.any() else None

    def summary(
        self, cells: Sequence[Cell], metric: Metric, statistic: Statistic, x: Any = None
    ) -> PointSummary:
        """The cells of one point."""
        found = [self.difference(cell, metric, statistic) for cell in cells]
        runs = [run for run in found if run is not None]
        return self.of_runs(runs, cells, metric, statistic, x)

    def _leave_out(self, cell: Cell, error: DamagedCurve) -> None:
        """Go on without a run whose curves are damaged, as if it had not been run; and say so."""
        warn(f"{error}; it is left out")
        del self.by_key[cell.key]

    def curve(self, cell: Cell, name: str, statistic: Statistic) -> "_Curve | None":
        """A run over its steps, or where runs are paired its difference to its baseline; None before it is
        stored."""
        baseline = self._baselines.of(cell, statistic.paired) if statistic.paired else cell
        if not self.by_key.keys() >= {cell.key, baseline.key}:
            return None
        own, other = self._curve(cell, name), self._curve(baseline, name) if statistic.paired else None
        if own is None or (other is None and statistic.paired):
            return None
        if other is None:
            return own
        both = {
            step: value - other.values[step] for step, value in own.values.items() if step in other.values
        }
        lost = own.lost or (other.lost and f"baseline {other.lost}")
        return _Curve(cell.seed, both, lost)

    def _curve(self, cell: Cell, name: str) -> "_Curve | None":
        """None where the file is damaged."""
        try:
            steps, values = self.store.curve(cell.key, name)
        except DamagedCurve as error:
            self._leave_out(cell, error)
            return None
        finite = {int(s): float(v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)}
        return _Curve(cell.seed, finite, "diverged" if self.by_key[cell.key].state == "diverged" else None)

    def of_runs(
        self, runs: list[RunValue], cells: Sequence[Cell], metric: Metric, statistic: Statistic, x: Any
    ) -> PointSummary:
        """What the runs of one point say together."""
        if self.are_baselines(cells, statistic):
            valued = [run for run in runs if run.value is not None]
            nothing = Summary(0.0 if valued else None, None, None, len(runs), len(valued), "the baseline")
            return PointSummary(x, cells[0].point, runs, len(cells), nothing)
        lost = {run.state for run in runs if run.value is None}
        without = "not reached" if lost == {"not reached"} else " or ".join(sorted(lost)) or "diverged"
        summary = summarise([run.value for run in runs], statistic, metric.higher_is_better, without)
        if len(runs) < len(cells):
            summary = replace(summary, rule=f"{summary.rule}, {len(cells) - len(runs)} not run yet")
        return PointSummary(x, cells[0].point, runs, len(cells), summary)


@dataclass(frozen=True)
class _Curve:
    """A number of one run by step, where it is finite; and why it ends before others, if it may."""

    seed: int
    values: dict[int, float]
    lost: str | None

    def at(self, step: int) -> RunValue | None:
        """None where there is no row although nothing was lost."""
        if step in self.values:
            return RunValue(self.seed, "finished", self.values[step])
        return None if self.lost is None else RunValue(self.seed, self.lost, None)


def _difference(run: RunValue, baseline: RunValue | None) -> RunValue | None:
    if baseline is None or run.value is None:
        return None if baseline is None else run
    if baseline.value is None:
        return RunValue(run.seed, f"baseline {baseline.state}", None)
    return RunValue(run.seed, "finished", run.value - baseline.value)


def table(results: SweepResults, metric: Metric, statistic: Statistic) -> dict[str, list[PointSummary]]:
    """Every point of every grid."""
    grids = results.plan.grids
    return {
        name: [results.summary(cells, metric, statistic) for cells in by_point(grid)]
        for name, grid in grids.items()
    }


def panel_series(results: SweepResults, panel: FilledPanel, where: str) -> list[Series]:
    """The curves of one panel.

    Raises:
        UserError: the panel cannot be laid out, or a run has no such metric.
    """
    found = []
    for layout in layouts(lambda sweep: results.of(sweep).plan, panel, where):
        own = results.of(layout.sweep)
        if layout.x.over_steps:
            points = _over_steps(own, layout, panel.statistic)
        else:
            points = [_point(own, place, tried, layout.metric, panel) for place, tried in layout.places]
        found.append(Series(layout.label, points, layout.metric, layout.x.over_steps, layout.by))
    return found


def _over_steps(results: SweepResults, layout: Layout, statistic: Statistic) -> list[PointSummary]:
    """A point per step at which every run that did not diverge has a value."""
    ((_, (cells,)),) = layout.places
    found = [results.curve(cell, layout.metric.name, statistic) for cell in cells]
    curves = [curve for curve in found if curve is not None]
    fixed = {key: results.plan.value(cells[0], key) for key in layout.x.keys}
    points = []
    for step in sorted({step for curve in curves for step in curve.values}):
        runs = [run for curve in curves if (run := curve.at(step)) is not None]
        if len(runs) == len(curves):
            x = layout.x.value({"step": step, **fixed}.get)
            points.append(results.of_runs(runs, cells, layout.metric, statistic, x))
    return points


def _point(
    results: SweepResults, x: Any, tried: list[list[Cell]], metric: Metric, panel: FilledPanel
) -> PointSummary:
    """The only point at an x, or the best of those over the tuned keys."""
    found = [results.summary(cells, metric, panel.statistic, x) for cells in tried]
    if len(found) == 1:
        return found[0]
    reached = [(center, point) for point in found if (center := point.summary.center) is not None]
    if not reached:  # nothing there: the runs are counted all the same
        runs = [run for point in found for run in point.runs]
        nothing = replace(found[0].summary, runs=len(runs), valued=sum(p.summary.valued for p in found))
        return PointSummary(x, {}, runs, sum(point.planned for point in found), nothing)
    _, best = (max if metric.higher_is_better else min)(reached, key=lambda pair: pair[0])
    values = [tuned_values(results.plan, cells, panel.tuned) for cells in tried]
    centers = {value: point.summary.center for value, point in zip(values, found, strict=True)}
    chosen = values[found.index(best)]
    choices = _choices(panel.tuned, centers, chosen, metric.higher_is_better)
    return replace(best, choices={key: choice for key, choice in choices.items() if key in best.point})


def _choices(
    keys: Sequence[str], centers: dict[tuple, float | None], chosen: tuple, higher_is_better: bool
) -> dict[str, Choice]:
    """For each tuned key the choice among the points that have the chosen values of the others."""
    choices: dict[str, Choice] = {}
    for i, key in enumerate(keys):
        along = {v[i]: c for v, c in centers.items() if v[:i] + v[i + 1 :] == chosen[:i] + chosen[i + 1 :]}
        choice = choose(along, higher_is_better)
        if choice is not None:
            choices[key] = choice
    return choices
