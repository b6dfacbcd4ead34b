"""Which runs lie where in a figure: its curves, and the cells of every x. Known before anything is run."""

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sgdlit.config.axes import number
from sgdlit.config.words import symbol
from sgdlit.foundations.errors import UserError
from sgdlit.sweeps.baselines import Baselines
from sgdlit.sweeps.expressions import Expression, shown_number
from sgdlit.sweeps.options import Curve, FilledPanel, SweepOptions, all_panels
from sgdlit.sweeps.plan import Cell, Plan
from sgdlit.sweeps.quantities import Metric


@dataclass(frozen=True)
class Layout:
    """One curve.

    Args:
        label: its name.
        metric: what is shown of each run.
        x: what is on its x axis.
        places: for every x the points there, each a list of cells that differ in their seed; several only
            where the best is taken. Of a curve over steps the only place, whose x is None.
        sweep: the folder of another sweep, whose cells these are; None for those of the plan.
        by: the key and the value of a curve that is one of several.
    """

    label: str
    metric: Metric
    x: Expression
    places: list[tuple[Any, list[list[Cell]]]]
    sweep: str | None = None
    by: tuple[str, Any] | None = None


Plans = Callable[[str | None], Plan]
"""The plan of the sweep in a folder; for None of the sweep that is drawn."""


def check_figures(plan: Plan, options: SweepOptions) -> None:
    """Lay out every figure, and find the baselines of paired differences, but for curves of other sweeps.

    Raises:
        UserError: see :func:`layouts` and :class:`Baselines`.
    """
    baselines = Baselines(plan)
    if options.statistic.paired:
        baselines.check(plan.cells, options.statistic.paired, "sweep.statistic")
    for where, panel in all_panels(options):
        own = replace(panel, curves=[curve for curve in panel.curves if curve.sweep is None])
        for layout in layouts(lambda _: plan, own, where):
            if panel.statistic.paired:
                cells = [cell for _, tried in layout.places for point in tried for cell in point]
                baselines.check(cells, panel.statistic.paired, f"{where}.statistic")


def layouts(plan_of: Plans, panel: FilledPanel, where: str) -> list[Layout]:
    """The curves of one panel.

    Raises:
        UserError: a key that no config has, a curve without points, points of a curve that share their x
            although nothing is tuned.
    """
    found = []
    for i, curve in enumerate(panel.curves):
        here = f"{where}.curves.{i}"
        plan = plan_of(curve.sweep)
        x = Expression(panel.x_of(curve), f"{here}.x")
        for key in (*x.keys, *panel.tuned, *curve.where, *([curve.by] if curve.by else [])):
            plan.check_key(key, here)
        for label, by, cells in _curves(plan, curve, here):
            places = _over_steps(cells, here) if x.over_steps else _places(plan, x, cells)
            for place, tried in places:
                _check_place(plan, place, tried, panel.tuned, here)
            found.append(Layout(label, curve.metric or panel.metric, x, places, curve.sweep, by))
    return found


def by_point(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that differ only in their seed together, in the order of the grid."""
    points: dict[str, list[Cell]] = {}
    for cell in cells:
        points.setdefault(repr(cell.point), []).append(cell)
    return list(points.values())


def tuned_values(plan: Plan, cells: Sequence[Cell], tuned: Sequence[str]) -> tuple:
    """The values that a point has at the tuned keys."""
    return tuple(plan.value(cells[0], key) for key in tuned)


def _curves(plan: Plan, curve: Curve, where: str) -> list[tuple[str, tuple[str, Any] | None, list[Cell]]]:
    """The cells of every curve that an entry stands for, with its name and the value of ``by``."""
    names = fnmatch.filter(plan.grids, curve.grid)
    if not names:
        raise UserError(
            f"{where}.grid: {curve.grid!r} is no grid of {curve.sweep}; allowed: {', '.join(plan.grids)}"
        )
    cells = list({cell.key: cell for name in names for cell in plan.grids[name]}.values())  # shared once
    for key, wanted in curve.where.items():
        allowed = number(wanted if isinstance(wanted, list) else [wanted])
        cells = [cell for cell in cells if plan.value(cell, key) in allowed]
    if not cells:
        raise UserError(f"{where}.where: no point of grid {curve.grid} has these values")
    if curve.by is None:
        return [(curve.label or curve.grid, None, cells)]
    label = curve.label or f"{symbol(curve.by)} = {{}}"
    found: dict[str, tuple[Any, list[Cell]]] = {}
    for cell in cells:
        value = plan.value(cell, curve.by)
        found.setdefault(shown_number(value), (value, []))[1].append(cell)
    return [(label.replace("{}", word), (curve.by, value), own) for word, (value, own) in found.items()]


def _over_steps(cells: Sequence[Cell], where: str) -> list[tuple[Any, list[list[Cell]]]]:
    if len(by_point(cells)) > 1:
        problem = "several points of the grid in one curve over steps"
        raise UserError(f"{where}: {problem}; make a curve for each with by, or choose one with where")
    return [(None, [list(cells)])]


def _places(plan: Plan, x: Expression, cells: Sequence[Cell]) -> list[tuple[Any, list[list[Cell]]]]:
    """The points at every x; numbers in their order."""
    at: dict[Any, list[list[Cell]]] = {}
    for point in by_point(cells):
        at.setdefault(x.value(partial(plan.value, point[0])), []).append(point)
    numeric = all(isinstance(place, int | float) for place in at)
    return sorted(at.items(), key=lambda place: place[0]) if numeric else list(at.items())


def _check_place(plan: Plan, x: Any, tried: list[list[Cell]], tuned: Sequence[str], where: str) -> None:
    if len(tried) == 1:
        return
    first = tried[0][0].point
    differ = sorted({k for cells in tried for k, v in cells[0].point.items() if v != first.get(k)})
    if not tuned:
        raise UserError(
            f"{where}: {len(tried)} points of the grid lie at x = {shown_number(x)}; they differ in "
            f"{', '.join(differ)}: make a curve for each value with by, or take the best with tuned"
        )
    if len({repr(tuned_values(plan, cells, tuned)) for cells in tried}) < len(tried):
        more = ", ".join(key for key in differ if key not in tuned)
        raise UserError(
            f"{where}: points at x = {shown_number(x)} also differ in {more}; name all tuned keys, or make a "
            "curve for each value with by"
        )
