"""Smith et al. 2021, figures 2 and 5: how training ends over ε and over λ, on the runs of figure 6.

What is compared is the mean over seeds, or the difference within pairs of equal seed, with 95 % intervals.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, binary_ticks, finish, panels, select
from sgdlit.foundations.intervals import t_interval
from sgdlit.papers.claim import Finding
from sgdlit.papers.paper import Evidence, Row, Tables
from sgdlit.sweeps.reading import load_sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KEYS = {"rate": "model.optimizer.lr", "strength": "model.reg_strength"}
_COLUMNS = {
    "c_reg": "train_set/C_reg.final",
    "loss": "train_set/loss.final",
    "final_accuracy": "train_set/accuracy.final",
    "accuracy": "train_set/accuracy.highest",
    "test_accuracy": "test/accuracy.highest",
}
_AS_GOOD, _EQUAL, _LOSSES = 1e-3, 5e-3, 1.5  # of accuracies; of accuracies; a factor of losses
_COMMON = (2**-4, 2**-3)  # values that the sweep over ε and the one over λ both have


def evidence(store: Path) -> Evidence:
    """Table ``ends``: by sweep (``rate``, ``strength``), its value of ε or λ, and seed."""
    cells = load_sweep(store).cells
    rows: list[Row] = []
    for k, grid in enumerate(cells["grid"]):
        if grid in _KEYS and cells["state"][k] == "finished":
            at = {"sweep": grid, "value": float(cells[_KEYS[grid]][k]), "seed": cells["seed"][k]}
            rows.append(at | {name: float(cells[column][k]) for name, column in _COLUMNS.items()})
    rows.sort(key=lambda row: (row["sweep"], row["value"], row["seed"]))
    return Evidence({"ends": rows}, [_best_rates(rows), *_two_sweeps(rows)], [_about_c_reg(rows)])


def _values(rows: list[Row], sweep: str, value: float, column: str) -> np.ndarray:
    """Of the runs at a point, by seed: float64 ``[seeds]``."""
    return np.array([row[column] for row in select(rows, sweep=sweep, value=value)])


def _paired(
    rows: list[Row], one: tuple[str, float], other: tuple[str, float], column: str
) -> tuple[Any, Any]:
    """Of two points, the values of the seeds with which both runs ended: float64 ``[seeds]`` each."""
    of = [{row["seed"]: row[column] for row in select(rows, sweep=s, value=v)} for s, v in (one, other)]
    seeds = sorted(of[0].keys() & of[1].keys())
    first, second = (np.array([values[seed] for seed in seeds]) for values in of)
    return first, second


def _places(rows: list[Row], sweep: str) -> list[float]:
    return sorted({row["value"] for row in select(rows, sweep=sweep)})


def _best_rates(rows: list[Row]) -> Finding:
    """F2."""
    rates = _places(rows, "rate")
    train = {lr: _values(rows, "rate", lr, "accuracy").mean() for lr in rates}
    test = {lr: _values(rows, "rate", lr, "test_accuracy").mean() for lr in rates}
    as_good = [lr for lr in rates if train[lr] > max(train.values()) - _AS_GOOD]
    best, second = sorted(rates, key=lambda lr: -test[lr])[:2]
    of_best, of_second = _paired(rows, ("rate", best), ("rate", second), "test_accuracy")
    low, high = t_interval(of_best - of_second)
    return Finding(
        "F2",
        f"ε within {_AS_GOOD:g} of the highest training accuracy, and ε of the highest test accuracy",
        "one, and a larger one",
        f"{_power(as_good[0])} to {_power(as_good[-1])}, and {_power(best)}",
        len(as_good) == 1 and as_good[0] < best,
        f"none: a grid of rates; test accuracy at {_power(best)} minus {_power(second)}: "
        f"[{low:+.4f}, {high:+.4f}]",
        f"all stable rates fit the training set at this size: the lowest of the {len(rates)} training "
        f"accuracies is {min(train.values()):.4f}, so that none is best",
    )


def _two_sweeps(rows: list[Row]) -> list[Finding]:
    """F5."""
    found = []
    for value in _COMMON:
        over_strength, over_lr = _paired(rows, ("strength", value), ("rate", value), "final_accuracy")
        low, high = t_interval(over_strength - over_lr)
        name = f"at λ = {_power(value)} and ε = 2⁻⁷ minus that at ε = {_power(value)}"
        apart = float((over_strength - over_lr).mean())
        statement = f"final training accuracy {name}, mean paired difference"
        found.append(
            Finding("F5", statement, f"0 ± {_EQUAL}", f"{apart:+.4f}", abs(apart) <= _EQUAL,
                    f"[{low:+.4f}, {high:+.4f}], 95 % by Student's t")
        )  # fmt: skip
    for value in _COMMON:
        over_strength, over_lr = _paired(rows, ("strength", value), ("rate", value), "loss")
        logs = np.log(over_strength / over_lr)
        low, high = np.exp(t_interval(logs))
        ratio = float(np.exp(logs.mean()))
        over = f"at λ = {_power(value)} and ε = 2⁻⁷ over that at ε = {_power(value)}"
        found.append(
            Finding("F5", f"final training loss {over}", f"below {_LOSSES}", f"{ratio:.1f}", ratio < _LOSSES,
                    f"[{low:.1f}, {high:.1f}], 95 % by Student's t on logarithms",
                    "after equal epochs a run at a small rate is less far; the paper trains for 6400 epochs")
        )  # fmt: skip
    return found


def _about_c_reg(rows: list[Row]) -> str:
    """What figure 1c looks at, on these runs."""
    rates = _places(rows, "rate")
    ends = [float(_values(rows, "rate", lr, "c_reg").mean()) for lr in (rates[0], rates[-1])]
    with_strength, without = _paired(rows, ("strength", 2**-4), ("rate", 2**-7), "c_reg")
    logs = np.log(with_strength / without)
    low, high = np.exp(t_interval(logs))
    return (
        f"F1c on these runs: C_reg at the end is {ends[0]:.2g} at ε = {_power(rates[0])} and {ends[1]:.2g} "
        f"at {_power(rates[-1])}; at λ = 2⁻⁴ it is {np.exp(logs.mean()):.2f} [{low:.2f}, {high:.2f}] of that "
        "without λ"
    )


def _power(value: float) -> str:
    """A power of two in words, such as 2⁻⁴."""
    return f"2{str(round(np.log2(value))).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def draw(tables: Tables) -> dict[str, Figure]:
    """C_reg over ε and over λ, each on an axis of its own; the training loss over both."""
    rows = tables["ends"]
    figure, (over_lr, over_strength, losses) = panels(1, 3)
    _curve(over_lr, rows, "rate", "c_reg", 0)
    _curve(over_strength, rows, "strength", "c_reg", 1)
    base = float(_values(rows, "rate", 2**-7, "c_reg").mean())
    over_strength.axhline(base, color="0.4", linestyle="--", linewidth=1, label="λ = 0")
    for k, sweep in enumerate(_KEYS):
        _curve(losses, rows, sweep, "loss", k)
    what = "C_reg of the training set"
    finish(over_lr, "F1c: over ε at λ = 0", "ε", what)
    finish(over_strength, "F1c: over λ at ε = 2⁻⁷", "λ", what, log="x")
    finish(losses, "F5: the loss does not agree", "ε, or λ", "final training loss")
    over_strength.set_ylim(bottom=0)
    lrs, strengths = (_places(rows, sweep) for sweep in _KEYS)
    for ax, places in ((over_lr, lrs), (over_strength, strengths), (losses, [*lrs, *strengths])):
        binary_ticks(ax, places)
    return {"training_ends": figure}


def _curve(ax: Axes, rows: list[Row], sweep: str, column: str, k: int) -> None:
    places = _places(rows, sweep)
    found = [_values(rows, sweep, value, column) for value in places]
    means = np.array([own.mean() for own in found])
    reach = np.abs(np.array([t_interval(own) for own in found]).T - means)
    label = "over ε, λ = 0" if sweep == "rate" else "over λ, ε = 2⁻⁷"
    ax.errorbar(
        places, means, reach, color=COLORS[k], marker=MARKERS[k], markersize=4, capsize=3, label=label
    )
