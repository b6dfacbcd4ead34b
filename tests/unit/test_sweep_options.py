"""The section ``sweep:``: what is written in short, what panels inherit, and every mistake by its key."""

import pytest
import yaml

from sgdlit.foundations.errors import UserError
from sgdlit.sweeps.expressions import Expression
from sgdlit.sweeps.options import panels_of, read_options
from sgdlit.sweeps.quantities import Metric, Statistic

GOOD = """
seeds: 3
grids: {rate: [{lr: [1, 2]}], n: [{n: [1, 2]}]}
metric: {name: test/loss, when: {first_step_at_or_below: 2^-3}, label: steps}
statistic: {mean_of_best: 2, level: 0.9}
figures:
  one: {x: lr, curves: [{grid: rate}], log: xy, title: alone}
  two:
    x: lr
    curves: [{grid: rate}]
    statistic: median
    title: not inherited
    panels:
      - {title: left}
      - {x: n / lr, curves: [{grid: n, metric: {name: train/loss, when: {mean_of_last: 5}}}], statistic: mean}
"""


def read(text: str):
    return read_options(yaml.safe_load(text), own_seed=7)


def test_what_is_written_in_short():
    options = read(GOOD)
    assert options.seeds == [0, 1, 2]
    assert options.metric == Metric("test/loss", "first_step_at_or_below", 0.125, None, "steps")
    assert options.statistic == Statistic("mean", 2, None, 0.9)
    bare = read("{grids: {a: []}, metric: test/accuracy}")
    assert (bare.seeds, bare.metric, bare.statistic) == ([7], Metric("test/accuracy"), Statistic())
    assert read("{grids: {a: []}, metric: x, seeds: [4, 9]}").seeds == [4, 9]


def test_panels_take_from_their_figure_and_that_from_the_sweep():
    options = read(GOOD)
    ((where, alone),) = panels_of(options, "one")
    assert (where, alone.title, alone.log, alone.metric) == (
        "sweep.figures.one",
        "alone",
        "xy",
        options.metric,
    )
    (where, left), (_, right) = panels_of(options, "two")
    assert (where, left.title, left.x, left.log) == ("sweep.figures.two.panels.0", "left", "lr", "none")
    assert (left.statistic, left.metric) == (Statistic("median"), options.metric)
    assert (right.title, right.x, right.statistic) == (None, "n / lr", Statistic())
    assert right.curves[0].metric == Metric("train/loss", "mean_of_last", 5)


def test_which_direction_is_better_and_how_an_axis_is_named():
    assert Metric("test/accuracy").higher_is_better
    assert not Metric("test/loss").higher_is_better
    assert not Metric("test/accuracy", "first_step_at_or_above", 0.9).higher_is_better
    assert Metric("test/loss", better="higher").higher_is_better
    assert Metric("test/accuracy", "first_step_at_or_above", 0.9).words == "steps to test accuracy ≥ 0.9"
    assert (
        Metric("train/C_reg", "mean_of_last", 50).words
        == "C_reg of the minibatch, mean of the last 50 logged"
    )
    assert Metric("test/accuracy", "highest").words == "highest test accuracy"


WRONG = {
    "null": "sweep: missing; a sweep file is a fit config with a section sweep:",
    "[1]": "sweep: [1] is not allowed; allowed: options, grids, metric, seeds, statistic, figures",
    "{grids: {a: []}}": "sweep.metric: missing; allowed in sweep: grids, metric",
    "{grids: {}, metric: x}": "sweep.grids: none; allowed: NAME: list of axes",
    "{grid: {a: []}, metric: x}": "sweep.grid: there is no such option; did you mean grids? allowed: grids, ",
}
WRONG_OPTIONS = {
    "seeds: 0": "sweep.seeds: 0 is not allowed; allowed: a number of seeds",
    "seeds: [1, 1]": "sweep.seeds: [1, 1] is not allowed",
    "seeds: [-1]": "sweep.seeds: [-1] is not allowed",
    "metric: {name: x, when: {best: 3}}": "sweep.metric.when: 'best' is not allowed; did you",
    "metric: {name: x, when: mean_of_last}": "sweep.metric.when: mean_of_last is not allowed; all",
    "metric: {name: x, value: 3}": "sweep.metric.when: {final: 3} is not allowed; allowed: final",
    "seeds: 3, statistic: {mean_of_best: 5}": "sweep.statistic.best: 5 of 3 seeds is not possible; "
    "allowed: 1 to 3, or more sweep.seeds",
    "statistic: {best: 0}": "sweep.statistic.best: 0 is not allowed; allowed: 1 or more",
    "statistic: {level: 95}": "sweep.statistic.level: 95 is not allowed; allowed: bet",
    "statistic: {center: median, interval: t}": "sweep.statistic.interval: t is only that of the mean "
    "over all runs; allowed",
    "statistic: means": "sweep.statistic.center: 'means' is not allowed; did you mean ",
    "figures: {f: {}}": "sweep.figures.f.curves: missing; allowed: a list",
    "figures: {f: {curves: [{grid: a}]}}": "sweep.figures.f.x: missing; allowed: a key",
}
WRONG_FIGURES = {
    "curves: [{grid: b}]": "curves.0.grid: 'b' is no grid; allowed: a",
    "curves: [{grid: a, bye: lr}]": "curves.0.bye: there is no such option; did you mean by?",
    "curves: a": "curves: 'a' is not allowed; allowed: a list",
    "log: z": "log: 'z' is not allowed; allowed: x, y, xy, none",
    "lines: [{name: l}]": "lines.0.name: 'l' needs one of x, y and power",
    "lines: [{name: l, y: 1, power: -1}]": "lines.0.name: 'l' needs one of x, y and power",
    "lines: [{name: l, y: up}]": "lines.0.y: 'up' is not allowed; allowed: float",
    "y_range: [1]": "y_range: [1] is not allowed; allowed: [from, to]",
    "runs: 1": "runs: 1 is not allowed; allowed: true, false",
}


def refused(section) -> str:
    with pytest.raises(UserError) as error:
        read_options(section, own_seed=0)
    return str(error.value)


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_section(text):
    assert refused(yaml.safe_load(text)).startswith(WRONG[text])


@pytest.mark.parametrize("text", WRONG_OPTIONS)
def test_a_mistake_in_an_option_is_named_by_its_key(text):
    section = {"grids": {"a": []}, "metric": "x"} | yaml.safe_load(f"{{{text}}}")
    assert refused(section).startswith(WRONG_OPTIONS[text])


@pytest.mark.parametrize("text", WRONG_FIGURES)
def test_a_mistake_in_a_figure_is_named_by_its_key(text):
    figure = {"x": "lr", "curves": [{"grid": "a"}]} | yaml.safe_load(f"{{{text}}}")
    section = {"grids": {"a": []}, "metric": "x", "figures": {"f": figure}}
    assert refused(section).startswith(f"sweep.figures.f.{WRONG_FIGURES[text]}")


VALUES = {"lr": 0.5, "data.batch_size": 4, "n": 2, "name": "SGD", "widths": [3, 4], "step": 10}


@pytest.mark.parametrize(
    ("text", "value", "words"),
    [
        ("lr", 0.5, "lr"),
        ("lr / data.batch_size", 0.125, "ε / B"),
        ("lr * n / data.batch_size", 0.25, "ε · n / B"),
        ("data.init_args.batch_size*2^-2", 1.0, "B · 0.25"),
        ("step * data.batch_size", 40, "step · B"),
        ("name", "SGD", "name"),
        ("widths", "[3, 4]", "widths"),
    ],
)
def test_expressions(text, value, words):
    expression = Expression(text, "x")
    assert expression.value(VALUES.get) == value
    assert expression.words == words
    assert expression.over_steps == ("step" in text)


@pytest.mark.parametrize("text", ["lr +  n", "", "lr /", "lr ** n", "f(lr)", "lr name"])
def test_what_is_no_expression(text):
    with pytest.raises(UserError, match=r"^x: .* is not allowed; allowed: a key of the config"):
        Expression(text, "x")


def test_a_product_needs_numbers():
    with pytest.raises(UserError, match=r"^x: name is 'SGD', not a number, in 'lr \* name'"):
        Expression("lr * name", "x").value(VALUES.get)
