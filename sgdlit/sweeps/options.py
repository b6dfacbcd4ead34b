"""The section ``sweep:`` of a sweep file: which runs, what is taken of each (``quantities``), what is drawn.

Everything else in the file is an ordinary ``fit`` config. ``configs/sweeps/reference.yaml`` explains every
option; the classes here say what each one means.
"""

import fnmatch
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from sgdlit.config.axes import number
from sgdlit.config.sections import build, shown
from sgdlit.foundations.errors import UserError
from sgdlit.sweeps.quantities import Metric, Statistic

T = TypeVar("T")


@dataclass(frozen=True)
class Curve:
    """Points of grids that are drawn in one colour, or one curve for each value of a key.

    Args:
        grid: the grid whose runs are drawn, or a pattern that the names of several fit (``sgd_*``).
        by: a key; one curve for each of its values.
        where: only points whose keys have these values (a value, or a list of them).
        label: name in the legend; ``{}`` stands for the value of ``by``.
        metric: instead of the panel's.
        x: instead of the panel's.
        sweep: folder of another sweep, ``sweeps/NAME``, whose grid and runs these are.
    """

    grid: str
    by: str | None = None
    where: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    metric: Metric | None = None
    x: str | None = None
    sweep: str | None = None


@dataclass(frozen=True)
class Line:
    """A reference line, described by one of ``x``, ``y`` and ``power``.

    Args:
        name: in the legend.
        x: of a vertical line.
        y: of a horizontal line.
        power: of y ∝ x^power, through the first point of the panel's first curve.
    """

    name: str
    x: float | None = None
    y: float | None = None
    power: float | None = None

    def __post_init__(self) -> None:
        if [self.x, self.y, self.power].count(None) != 2:
            raise UserError(f"name: {self.name!r} needs one of x, y and power")


@dataclass(frozen=True)
class Panel:
    """One pair of axes. What a panel leaves out it takes from its figure, and that from the sweep.

    Args:
        x: a key, or products and quotients of keys and numbers (``model.optimizer.lr / data.batch_size``);
            with ``step`` among them, curves over the steps of the runs.
        curves: what is drawn.
        metric: what is shown of each run.
        statistic: what is shown of the runs of a point.
        tuned: keys over which the best is taken at every x.
        log: axes that are logarithmic.
        lines: reference lines.
        runs: whether single runs are drawn faintly behind the points.
        title: over the axes.
        x_label: name of the x axis.
        y_label: name of the y axis.
        y_range: ends of the y axis.
        color_bar: whether curves ``by`` the values of a number are coloured by it, with a colour bar instead
            of a legend; by default where there are more than seven.
    """

    x: str | None = None
    curves: list[Curve] | None = None
    metric: Metric | None = None
    statistic: Statistic | None = None
    tuned: list[str] | None = None
    log: Literal["x", "y", "xy", "none"] | None = None
    lines: list[Line] | None = None
    runs: bool | None = None
    title: str | None = None
    x_label: str | None = None
    y_label: str | None = None
    y_range: list[float] | None = None
    color_bar: bool | None = None


@dataclass(frozen=True)
class Figure(Panel):
    """One picture: the options of its only panel, or those that its panels share.

    Args:
        panels: several panels side by side.
        heading: over the whole picture.
        columns: panels in a row.
    """

    panels: list[Panel] | None = None
    heading: str | None = None
    columns: int = 3


@dataclass(frozen=True)
class FilledPanel:
    """A panel with what its figure and the sweep say where it says nothing itself: see :class:`Panel`.

    ``x`` is empty where every curve has its own.
    """

    curves: list[Curve]
    x: str
    metric: Metric
    statistic: Statistic
    tuned: list[str]
    log: Literal["x", "y", "xy", "none"]
    lines: list[Line]
    runs: bool
    title: str | None
    x_label: str | None
    y_label: str | None
    y_range: list[float] | None
    color_bar: bool | None

    def x_of(self, curve: Curve) -> str:
        """What is on the x axis of a curve."""
        return curve.x or self.x


@dataclass(frozen=True)
class SweepOptions:
    """The whole section.

    Args:
        grids: lists of axes (:mod:`sgdlit.config.axes`) by name.
        seeds: a list of seeds, or how many, counted from 0; by default the config's own.
        metric: what the table shows of each run, and figures that name no other.
        statistic: what the table shows of the runs of a point, and figures that name no other.
        figures: pictures by name.
        together: most runs of equal shape that are trained in one call, as an ensemble; as memory allows.
            None: 16, and more where the steps of 16 runs take less than a call itself.
    """

    grids: dict[str, Any]
    metric: Metric
    seeds: Any = None
    statistic: Statistic = field(default_factory=Statistic)
    figures: dict[str, Figure] = field(default_factory=dict)
    together: int | None = None

    def __post_init__(self) -> None:
        if self.together is not None and self.together < 1:
            raise UserError(f"together: {self.together} is not allowed; allowed: 1 or more, or null")


def read_options(section: Any, own_seed: int) -> SweepOptions:
    """The section ``sweep:``, checked as far as it can be without the config.

    Args:
        section: as it was read from YAML.
        own_seed: ``seed_everything`` of the config.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    if section is None:
        raise UserError(
            "sweep: missing; a sweep file is a fit config with a section sweep: (docs/sweeps.md), such as "
            "configs/sweeps/reference.yaml"
        )
    options = build(SweepOptions, section, "sweep")
    options = replace(options, seeds=_seeds(options.seeds, own_seed))
    if not options.grids:
        raise UserError("sweep.grids: none; allowed: NAME: list of axes, one or more")
    _check_statistic(options.statistic, "sweep.statistic", options.seeds)
    for where, panel in all_panels(options):
        _check_panel(panel, where, options)
    return options


def _seeds(given: Any, own_seed: int) -> list[int]:
    if given is None:
        return [own_seed]
    given = number(given)
    seeds = list(range(given)) if isinstance(given, int) and not isinstance(given, bool) else given
    whole = isinstance(seeds, list) and all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise UserError(
            f"sweep.seeds: {shown(given)} is not allowed; allowed: a number of seeds, or a list of different "
            f"seeds from 0 to {2**32 - 1}"
        )
    return seeds


def all_panels(options: SweepOptions) -> list[tuple[str, FilledPanel]]:
    """Every panel of every figure with its key, filled with what figure and sweep say."""
    return [pair for name in options.figures for pair in panels_of(options, name)]


def panels_of(options: SweepOptions, name: str) -> list[tuple[str, FilledPanel]]:
    """The panels of one figure with their keys, filled with what figure and sweep say.

    Raises:
        UserError: one without curves, or without what is on the x axis.
    """
    figure = options.figures[name]
    where = f"sweep.figures.{name}"
    own = {where: figure} if figure.panels is None else _numbered(f"{where}.panels", figure.panels)
    return [(key, _filled(key, panel, figure, options)) for key, panel in own.items()]


def _numbered(where: str, panels: list[Panel]) -> dict[str, Panel]:
    return {f"{where}.{i}": panel for i, panel in enumerate(panels)}


def _filled(where: str, panel: Panel, figure: Figure, options: SweepOptions) -> FilledPanel:
    x, curves = _first("", panel.x, figure.x), _first([], panel.curves, figure.curves)
    if not curves:
        raise UserError(f"{where}.curves: missing; allowed: a list, such as [{{grid: NAME}}]")
    if not all(curve.x or x for curve in curves):
        raise UserError(f"{where}.x: missing; allowed: a key, such as model.optimizer.lr")
    return FilledPanel(
        curves=curves,
        x=x,
        metric=_first(options.metric, panel.metric, figure.metric),
        statistic=_first(options.statistic, panel.statistic, figure.statistic),
        tuned=_first([], panel.tuned, figure.tuned),
        log=_first("none", panel.log, figure.log),
        lines=_first([], panel.lines, figure.lines),
        runs=_first(True, panel.runs, figure.runs),
        title=panel.title,
        x_label=_first(None, panel.x_label, figure.x_label),
        y_label=_first(None, panel.y_label, figure.y_label),
        y_range=_first(None, panel.y_range, figure.y_range),
        color_bar=_first(None, panel.color_bar, figure.color_bar),
    )


def _first(otherwise: T, *given: T | None) -> T:
    """The first value that is given."""
    return next((value for value in given if value is not None), otherwise)


def _check_panel(panel: FilledPanel, where: str, options: SweepOptions) -> None:
    if panel.y_range is not None and len(panel.y_range) != 2:
        raise UserError(f"{where}.y_range: {panel.y_range} is not allowed; allowed: [from, to]")
    for i, curve in enumerate(panel.curves):
        if curve.sweep is None and not fnmatch.filter(options.grids, curve.grid):
            raise UserError(
                f"{where}.curves.{i}.grid: {curve.grid!r} is no grid; allowed: {', '.join(options.grids)}"
            )
    _check_statistic(panel.statistic, f"{where}.statistic", options.seeds)


def _check_statistic(statistic: Statistic, where: str, seeds: list[int]) -> None:
    if statistic.best is not None and statistic.best > len(seeds):
        raise UserError(
            f"{where}.best: {statistic.best} of {len(seeds)} seeds is not possible; allowed: 1 to "
            f"{len(seeds)}, or more sweep.seeds"
        )
