"""What figures and tables show, from a store that is written by hand: every number against a formula."""

import csv
import itertools
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from matplotlib.colors import to_rgb

from sgdlit.figures.colors import of_values, place_of_zero
from sgdlit.figures.style import panels
from sgdlit.figures.sweep import draw, draw_panel
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import t_interval
from sgdlit.sweeps.expressions import power_of_two, shown_number
from sgdlit.sweeps.layout import check_figures
from sgdlit.sweeps.options import SweepOptions, panels_of, read_options
from sgdlit.sweeps.plan import Cell, Plan, write_plan
from sgdlit.sweeps.series import Series, SweepResults, panel_series, table
from sgdlit.sweeps.store import Result, Store, summary_of
from sgdlit.sweeps.table import in_words, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_LR = "model.optimizer.lr"
RATES, SIZES, SEEDS = [2.0**-k for k in range(6, 2, -1)], [1, 2, 4], [0, 1, 2]


def loss(rate: float, size: int, seed: int) -> float:
    """Least at rate = size · 2⁻⁵, the same for the same rate/size."""
    return (np.log2(rate / size) + 5) ** 2 + 0.1 * seed + 1


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> SweepResults:
    """A grid rate x size x 3 seeds: at the highest rate and size 1 seed 2 diverged; size 4 lacks seed 1."""
    store = Store(tmp_path_factory.mktemp("figures") / "store", create=True)
    cells = []
    for k, (rate, size) in enumerate(itertools.product(RATES, SIZES)):
        for seed in SEEDS:
            cell = Cell(f"{k:016x}-{seed}", {"model.optimizer.lr": rate, "data.batch_size": size}, seed)
            cells.append(cell)
            if (size, seed) != (4, 1):
                write(store, cell, loss(rate, size, seed), diverged=(rate, size, seed) == (RATES[-1], 1, 2))
    settings = {"model.optimizer.lr": 0.5, "data.batch_size": 1, "data.repeats": 2, "model.optimizer": "SGD"}
    return SweepResults(Plan({"all": cells}, settings, "inputs"), store)


def write(store: Store, cell: Cell, value: float, diverged: bool) -> None:
    steps = np.array([10, 20]) if diverged else np.array([10, 20, 30])
    values = np.array([8 * value, 2 * value, value])[: len(steps)]
    columns = {"test/loss": (steps, values), "train/loss": (steps, values / 2)}
    state = "diverged" if diverged else "finished"
    result = Result(
        cell.key, cell.point, cell.seed, state, int(steps[-1]), {}, summary_of(columns), 1.0, {"at": "now"}
    )
    store.write(result, columns)


def options_of(figure: str, more: str = "") -> SweepOptions:
    text = f"{{grids: {{all: []}}, seeds: 3, metric: test/loss, figures: {{f: {{{figure}}}}} {more}}}"
    return read_options(yaml.safe_load(text), own_seed=0)


def series_of(results: SweepResults, figure: str):
    ((where, panel),) = panels_of(options_of(figure), "f")
    return panel_series(results, panel, where)


BY_SIZE = "curves: [{grid: all, by: data.batch_size, label: 'B = {}'}]"


def test_a_curve_per_value_of_a_key_with_the_mean_of_its_seeds(results):
    series = series_of(results, f"x: model.optimizer.lr, {BY_SIZE}")
    assert [s.label for s in series] == ["B = 1", "B = 2", "B = 4"]
    assert [p.x for p in series[0].points] == RATES
    for point in series[1].points:
        values = [loss(point.x, 2, seed) for seed in SEEDS]
        assert point.summary.center == pytest.approx(np.mean(values))
        assert [run.value for run in point.runs] == pytest.approx(values)
    assert series[0].points[-1].summary.center is None
    assert series[0].points[-1].summary.rule == "mean of 3, 1 diverged"
    assert [run.state for run in series[0].points[-1].runs] == ["finished", "finished", "diverged"]
    assert series[2].points[0].summary.rule == "mean of 2, 1 not run yet"


def test_a_quotient_on_the_x_axis_lets_curves_collapse(results):
    series = series_of(results, f"x: model.optimizer.lr / data.batch_size, {BY_SIZE}, statistic: {{best: 2}}")
    one, two = ({p.x: p.summary.center for p in s.points} for s in series[:2])
    shared = sorted(one.keys() & two.keys())
    assert shared == RATES[:3]
    assert [one[x] for x in shared] == pytest.approx([two[x] for x in shared])


def test_keys_that_are_no_axis_come_from_the_config(results):
    (series,) = series_of(
        results, "x: model.optimizer.lr * data.repeats, curves: [{grid: all, where: {data.batch_size: 2}}]"
    )
    assert [p.x for p in series.points] == [2 * rate for rate in RATES]


WHENS = {
    "final": lambda v: v,
    "lowest": lambda v: v,
    "highest": lambda v: 8 * v,
    "{mean_of_last: 2}": lambda v: 1.5 * v,
    "{mean_of_last: 50}": lambda v: 11 / 3 * v,
    "{first_step_at_or_below: 2.2}": lambda v: 20.0 if 2 * v <= 2.2 else 30.0 if v <= 2.2 else None,
    "{first_step_at_or_above: 16}": lambda v: 10.0 if 8 * v >= 16 else None,
}


@pytest.mark.parametrize("when", WHENS)
def test_what_is_taken_of_a_run(results, when):
    (series,) = series_of(
        results,
        f"x: model.optimizer.lr, metric: {{name: test/loss, when: {when}}}, "
        "curves: [{grid: all, where: {data.batch_size: 2}}]",
    )
    for point in series.points:
        expected = [WHENS[when](loss(point.x, 2, seed)) for seed in SEEDS]
        assert [run.value for run in point.runs] == [v if v is None else pytest.approx(v) for v in expected]
        assert [run.state for run in point.runs] == [
            "not reached" if v is None else "finished" for v in expected
        ]


def test_tuning_takes_the_best_and_shows_what_lies_beside_it(results):
    (series,) = series_of(
        results, "x: data.batch_size, curves: [{grid: all}], tuned: [model.optimizer.lr], statistic: median"
    )
    best = {p.x: p.choices["model.optimizer.lr"] for p in series.points}
    assert {x: choice.chosen for x, choice in best.items()} == {1: 2.0**-5, 2: 2.0**-4, 4: 2.0**-3}
    assert {x: choice.at_edge for x, choice in best.items()} == {1: False, 2: False, 4: True}
    assert best[1].neighbours == ((2.0**-6, pytest.approx(2.1)), (2.0**-4, pytest.approx(2.1)))
    assert [p.summary.center for p in series.points] == pytest.approx([1.1, 1.1, 1.1])


def test_curves_over_steps(results):
    (series,) = series_of(
        results,
        "x: step * data.batch_size, statistic: {best: 2}, "
        f"curves: [{{grid: all, where: {{data.batch_size: 1, model.optimizer.lr: {RATES[-1]}}}}}]",
    )
    assert series.over_steps
    assert [p.x for p in series.points] == [10, 20, 30]
    values = [loss(RATES[-1], 1, seed) for seed in SEEDS]
    assert series.points[0].summary.center == pytest.approx(8 * np.mean(values[:2]))
    assert series.points[2].summary.center == pytest.approx(np.mean(values[:2]))
    assert [run.state for run in series.points[2].runs] == ["finished", "finished", "diverged"]


def damage(path: Path, kind: str) -> None:
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("test/loss.npy").header_offset + 80  # beyond the header of the part
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    path.write_bytes({"a bit": flipped, "cut": whole[: len(whole) // 2], "no archive": b"garbage"}[kind])


LAST_TWO = "model.optimizer.lr, metric: {name: test/loss, when: {mean_of_last: 2}}"


@pytest.mark.parametrize("kind", ["a bit", "cut", "no archive"])
@pytest.mark.parametrize(
    "x", ["step", "model.optimizer.lr, metric: {name: test/loss, when: {mean_of_last: 2}}"]
)
def test_a_damaged_curve_file_costs_its_own_run_alone(results, kind, x, tmp_path, capsys):
    rate = f", model.optimizer.lr: {RATES[0]}" if x == "step" else ""
    figure = f"x: {x}, curves: [{{grid: all, where: {{data.batch_size: 1{rate}}}}}]"
    (whole,) = series_of(results, figure)
    store = Store(tmp_path / "store", create=True)
    for name in ("runs", "curves"):
        shutil.copytree(results.store.folder / name, store.folder / name, dirs_exist_ok=True)
    path = store.folder / "curves" / f"{0:016x}-1.npz"
    damage(path, kind)
    (series,) = series_of(SweepResults(results.plan, store), figure)
    assert (
        f"{path}: cannot be read; run the cell again with --rerun; it is left out" in capsys.readouterr().err
    )
    assert len(whole.points[0].runs) == 3
    assert [run.seed for run in series.points[0].runs] == [0, 2]
    assert series.points[0].summary.rule.endswith("1 not run yet")
    assert series.points[1:] == whole.points[1:] or x == "step"


WRONG = {
    "x: model.optimizer.lrr, curves: [{grid: all}]": "'model.optimizer.lrr' is no key of the config; did you",
    "x: model.optimizer.lr, curves: [{grid: all}]": "3 points of the grid lie at x = 2^-6; they differ in "
    "data.batch_size: make a curve for each value with by, or take the best with tuned",
    "x: step, curves: [{grid: all}]": "several points of the grid in one curve over steps; make a curve",
    "x: model.optimizer.lr, curves: [{grid: all, where: {data.batch_size: 3}}]": "no point of grid all has",
    "x: model.optimizer.lr, curves: [{grid: all, by: size}]": "'size' is no key of the config",
    "x: model.optimizer * 2, curves: [{grid: all}]": "model.optimizer is 'SGD', not a number",
    "x: data.repeats, tuned: [data.batch_size], curves: [{grid: all}]": "at x = 2 also differ in model.opt",
    f"x: model.optimizer.lr, {BY_SIZE}, metric: test/los": "'test/los' was not logged by run "
    "0000000000000000-0; did you mean test/loss?",
}


@pytest.mark.parametrize("figure", WRONG)
def test_what_cannot_be_drawn(results, figure):
    with pytest.raises(UserError) as refused:
        series_of(results, figure)
    assert WRONG[figure] in str(refused.value)


def test_the_table_has_a_row_per_point_and_its_rule(results):
    options = options_of("x: model.optimizer.lr, curves: [{grid: all}]", ", statistic: {mean_of_best: 2}")
    points = table(results, options.metric, options.statistic)
    rows = rows_of(points)
    assert len(rows) == len(RATES) * len(SIZES)
    row = rows[3 * len(RATES) - 3]
    assert (row["grid"], row["model.optimizer.lr"], row["data.batch_size"]) == ("all", RATES[-1], 1)
    assert (row["runs"], row["diverged"], row["rule"]) == (3, 1, "mean of the best 2 of 3, 1 diverged")
    text = in_words(points, options.metric, options.statistic)
    assert "test loss, with 95 % bootstrap interval" in text
    assert "1 diverged" in text


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_picture_with_its_numbers(results, tmp_path, capsys):
    figure = (
        "heading: Collapse, log: x, x: model.optimizer.lr / data.batch_size, lines: [{name: least, y: 1}], "
        "panels: ["
        f"{{title: by size, {BY_SIZE}}}, "
        "{title: tuned, x: data.batch_size, tuned: [model.optimizer.lr], curves: [{grid: all, label: best}]}]"
    )
    options = options_of(figure)
    written = draw("f", options, results, tmp_path, svg=True)
    assert [path.name for path in written] == ["f.png", "f.svg", "f.csv", "f_runs.csv"]
    svg = (tmp_path / "f.svg").read_text()
    for words in ("Collapse", "ε / B", "batch size B", "least", "B = 4", "runs that diverged (1)"):
        assert words in svg, words
    assert "Points: mean of 3 runs, bars: 95 % t-interval; small points: single runs" in svg
    assert "not run yet: 4" in svg
    points, runs = read_csv(tmp_path / "f.csv"), read_csv(tmp_path / "f_runs.csv")
    assert len(points) == len(RATES) * len(SIZES) + len(SIZES)
    first = points[0]
    assert (first["panel"], first["curve"], float(first["x"])) == ("by size", "B = 1", RATES[0])
    assert float(first["center"]) == pytest.approx(np.mean([loss(RATES[0], 1, s) for s in SEEDS]))
    mine = [
        float(r["value"])
        for r in runs
        if (r["panel"], r["curve"], r["x"]) == ("by size", "B = 1", first["x"])
    ]
    assert mine == pytest.approx([loss(RATES[0], 1, s) for s in SEEDS])
    assert [r["state"] for r in runs if r["value"] == ""] == ["diverged"]
    said = capsys.readouterr()
    assert "best, x = 1: best model.optimizer.lr 2^-5: 1.1 (beside it 2^-6: 2.1, 2^-4: 2.1)" in said.out
    assert "best, x = 4: the best model.optimizer.lr, 2^-3, lies at the edge of what was tried" in said.err


@pytest.mark.parametrize("pattern", ["size_*", "size_?"])
def test_a_curve_over_the_grids_that_fit_a_pattern(results, pattern):
    """As over one grid of all their cells; a cell that two of them share counts once."""
    cells = results.plan.grids["all"]
    own = {f"size_{b}": [c for c in cells if c.point["data.batch_size"] == b] for b in SIZES}
    own["size_x"], own["other"] = own["size_1"], []
    apart = SweepResults(Plan(own, results.plan.settings, "inputs"), results.store)
    text = f"{{grids: {{{', '.join(f'{n}: []' for n in own)}}}, seeds: 3, metric: test/loss, figures: {{f: {{"
    text += f"x: data.batch_size, tuned: [model.optimizer.lr], curves: [{{grid: '{pattern}'}}]}}}}}}"
    ((where, panel),) = panels_of(read_options(yaml.safe_load(text), own_seed=0), "f")
    (found,) = panel_series(apart, panel, where)
    (expected,) = series_of(results, "x: data.batch_size, tuned: [model.optimizer.lr], curves: [{grid: all}]")
    assert found.points == expected.points
    with pytest.raises(UserError, match=r"grid: 'sice_\*' is no grid; allowed: size_1"):
        read_options(yaml.safe_load(text.replace(pattern, "sice_*")), own_seed=0)


def test_a_line_of_a_power_goes_through_the_first_point(results):
    figure = "x: model.optimizer.lr, log: xy, lines: [{name: scaling, power: -2}], "
    for curve, first in (("{grid: all, where: {data.batch_size: 2}}", (RATES[0], loss(RATES[0], 2, 1))), (
        "{grid: all, where: {data.batch_size: 1, model.optimizer.lr: 2^-3}}", None)):  # fmt: skip
        ((_, panel),) = panels_of(options_of(f"{figure} curves: [{curve}]"), "f")
        (ax,) = panels(1, 1)[1]
        draw_panel(ax, panel, panel_series(results, panel, "f"))
        drawn = [line for line in ax.lines if line.get_label() == "scaling"]
        assert len(drawn) == (first is not None)  # the mean of runs one of which diverged is no point
        for line in drawn:
            x, y = line.get_data()
            assert (x[0], y[0]) == pytest.approx(first)
            assert x[-1] == pytest.approx(RATES[-1])
            assert y * x**2 == pytest.approx(first[1] * first[0] ** 2)


def moved(results: SweepResults, first: float) -> SweepResults:
    """The runs of size 2, as if those at the lowest rate had the rate ``first``."""
    cells = [cell for cell in results.plan.grids["all"] if cell.point["data.batch_size"] == 2]
    rates = {RATES[0]: first}
    own = [replace(c, point={_LR: rates.get(c.point[_LR], c.point[_LR])}) for c in cells]
    return SweepResults(Plan({"all": own}, results.plan.settings, "inputs"), results.store)


def panel_of(results: SweepResults, figure: str) -> "tuple[Axes, list[Series]]":
    ((where, panel),) = panels_of(options_of(figure), "f")
    (ax,) = panels(1, 1)[1]
    series = panel_series(results, panel, where)
    draw_panel(ax, panel, series)
    return ax, series


def ticks_of(axis: "Axis") -> dict[str, float]:
    return {
        label.get_text(): place
        for label, place in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
    }


def test_zero_has_a_tick_of_its_own_on_a_logarithmic_axis(results, capsys):
    """One step of the grid left of the rest, with nothing drawn across the gap, and its point in place."""
    ax, (series,) = panel_of(moved(results, 0.0), f"x: {_LR}, log: x, curves: [{{grid: all}}]")
    ticks = ticks_of(ax.xaxis)
    assert ticks["0"] == RATES[1] / 2
    assert {2.0**-5, 2.0**-3} < set(ticks.values())
    assert len(ticks) == 4
    (line,) = [line for line in ax.lines if line.get_label() == "all"]
    xs, ys = line.get_data()
    assert (xs[0], ys[0]) == (RATES[1] / 2, pytest.approx(series.points[0].summary.center))
    assert series.points[0].x == 0
    assert np.isnan(ys[1])
    assert np.isfinite(ys[2:]).all()
    assert capsys.readouterr().err == ""


def test_what_lies_below_zero_has_no_place_on_a_logarithmic_axis(results, capsys):
    ax, _ = panel_of(moved(results, -1.0), f"x: {_LR}, log: x, curves: [{{grid: all}}]")
    assert "x = -1.0 has no place on a logarithmic axis, and is not drawn" in capsys.readouterr().err
    assert min(ticks_of(ax.xaxis).values()) == RATES[1]


def test_paired_differences_are_those_of_equal_seeds(results):
    """The mean of the differences and its t-interval; the baseline itself; a partner that diverged or is not
    there; the same over steps."""
    base = RATES[-1]
    paired = f"x: {_LR}, {BY_SIZE}, statistic: {{paired: {{{_LR}: {base}}}}}"
    one, two, four = series_of(results, paired)
    for point in two.points[:-1]:
        differences = [loss(point.x, 2, seed) - loss(base, 2, seed) for seed in SEEDS]
        assert [run.value for run in point.runs] == pytest.approx(differences)
        assert point.summary.center == pytest.approx(np.mean(differences))
        assert (point.summary.low, point.summary.high) == pytest.approx(
            t_interval(np.array(differences), 0.95)
        )
        assert point.summary.rule == "mean of 3 differences"
    assert (two.points[-1].summary.center, two.points[-1].summary.rule) == (0.0, "the baseline")
    assert [run.state for run in one.points[0].runs] == ["finished", "finished", "baseline diverged"]
    assert one.points[0].summary.rule == "mean of 3 differences, 1 baseline diverged"
    assert [run.seed for run in four.points[0].runs] == [0, 2]
    where = f"where: {{data.batch_size: 1, {_LR}: {RATES[0]}}}"
    figure = f"x: step, curves: [{{grid: all, {where}}}], statistic: {{paired: {{{_LR}: {base}}}}}"
    (course,) = series_of(results, figure)
    values = {p.x: [run.value for run in p.runs] for p in course.points}
    assert values[10] == pytest.approx([8 * (loss(RATES[0], 1, s) - loss(base, 1, s)) for s in SEEDS])
    assert values[30][2] is None
    assert [run.state for run in course.points[2].runs] == ["finished", "finished", "baseline diverged"]


def test_a_pair_needs_a_partner(results):
    paired = f"x: {_LR}, {BY_SIZE}, statistic: {{paired: {{{_LR}: 3}}}}"
    options = options_of(paired)
    with pytest.raises(UserError, match=f"paired: no run has {_LR} 3 and else the values of the run with"):
        check_figures(results.plan, options)
    check_figures(results.plan, options_of(paired.replace("3}", f"{RATES[0]}}}")))
    with pytest.raises(UserError, match="paired: a mean of the best differences has no meaning"):
        options_of(paired.replace("paired", "best: 2, paired"))


def test_a_figure_of_two_sweeps(results, tmp_path):
    """A curve with ``sweep`` has the cells and the runs of that folder, and its own settings."""
    other = Store(tmp_path / "other", create=True)
    cells = [Cell(f"{k:016x}-0", {_LR: rate}, 0) for k, rate in enumerate(RATES)]
    for cell in cells:
        write(other, cell, 100 * cell.point[_LR], diverged=False)
    write_plan(Plan({"own": cells}, {"data.repeats": 4, **results.plan.settings}, "inputs"), other)
    here = "{grid: all, where: {data.batch_size: 2}}"
    there = f"{{grid: own, sweep: {other.folder}, label: the other}}"
    mine, theirs = series_of(results, f"x: {_LR}, curves: [{here}, {there}]")
    assert [p.summary.center for p in theirs.points] == pytest.approx([100 * rate for rate in RATES])
    assert [len(p.runs) for p in mine.points] == [3] * len(RATES)
    for wrong, words in ((f"{{grid: all, sweep: {other.folder}}}", "'all' is no grid of"),
                         ("{grid: all, sweep: nowhere}", "nowhere: no sweep is stored there")):  # fmt: skip
        with pytest.raises(UserError, match=words):
            series_of(results, f"x: {_LR}, curves: [{wrong}]")


@pytest.mark.parametrize("asked", ["", ", color_bar: true", ", color_bar: false"])
def test_many_curves_by_a_number_have_its_colour(results, asked):
    """Darker for less, with a bar instead of names; by itself only for more than there are colours."""
    figure = f"x: data.batch_size, curves: [{{grid: all, by: {_LR}}}]{asked}"
    ax, series = panel_of(results, figure)
    bars = [axes for axes in ax.figure.axes if axes is not ax]
    assert len(series) == len(RATES)
    assert len(bars) == ("true" in asked)
    assert (ax.get_legend() is None) == ("true" in asked)
    if bars:
        assert [label.get_text() for label in bars[0].get_yticklabels()] == [f"{rate:.4g}" for rate in RATES]
        assert bars[0].get_ylabel() == "learning rate ε"
        found = [line.get_color() for line in ax.lines if line.get_markersize() == 3.5]
        assert [sum(to_rgb(color)) for color in found] == sorted(sum(to_rgb(color)) for color in found)


def test_a_rate_at_which_all_diverged_stretches_no_colours(tmp_path):
    store, rates = Store(tmp_path, create=True), (0.1, 0.2, 0.3, 1000.0)
    cells = [Cell(f"{k:016x}-0", {_LR: rate, "data.batch_size": 1}, 0) for k, rate in enumerate(rates)]
    for cell in cells:
        write(store, cell, cell.point[_LR], diverged=cell.point[_LR] > 1)
    results = SweepResults(Plan({"all": cells}, {"data.repeats": 4}, "inputs"), store)
    figure = f"x: data.batch_size, curves: [{{grid: all, by: {_LR}}}], color_bar: true"
    ax, _ = panel_of(results, figure)
    (bar,) = (axes for axes in ax.figure.axes if axes is not ax)
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0.1", "0.2", "0.3"]
    found = [line.get_color() for line in ax.lines if line.get_markersize() == 3.5]
    assert found == [*of_values(rates[:3]), "0.6"]


def test_zero_among_values_of_a_logarithmic_colour_bar():
    values = [0.0, 0.01, 0.1, 1.0]
    shown = of_values(values)
    assert len(set(shown)) == 4
    assert [sum(to_rgb(color)) for color in shown] == sorted(sum(to_rgb(color)) for color in shown)
    assert place_of_zero(values) == pytest.approx(0.001)
    assert place_of_zero([0.0, 3.0]) == 1.5


def test_numbers_as_people_write_them():
    assert [shown_number(v) for v in (2.0**-9, 0.5, 1, 16, 64, 128, 0.1, 12345678, "relu", True, 0)] == [
        "2^-9", "2^-1", "1", "16", "64", "2^7", "0.1", "1.23457e+07", "relu", "True", "0",
    ]  # fmt: skip
    assert [power_of_two(v) for v in (0.25, 1, 8, 3, 0, -2, float("inf"))] == [
        -2,
        0,
        3,
        None,
        None,
        None,
        None,
    ]
