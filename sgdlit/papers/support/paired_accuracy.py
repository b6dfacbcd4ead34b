"""Smith et al. 2021, figure 6, by pairs: what λ and ε do to the highest test accuracy at equal seeds.

Two runs with one seed start from the same weights and see the same minibatches. The difference within such a
pair has a narrower interval than two means have, whose runs differ from seed to seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdlit.figures.style import COLORS, binary_ticks, finish, panels, select
from sgdlit.foundations.intervals import t_interval
from sgdlit.papers.claim import Finding
from sgdlit.papers.paper import Evidence, Row, Tables
from sgdlit.papers.support.fresh_seeds import fresh_seeds, in_words
from sgdlit.sweeps.reading import load_sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LR, _STRENGTH, _BATCH = "model.optimizer.lr", "model.reg_strength", "data.batch_size"
_EPOCHS, _CADENCE = "trainer.max_epochs", "trainer.check_val_every_n_epoch"
_FAR = 0.02  # below the base: an arrow on the axis, or it would flatten what the others show
_METRIC = "test/accuracy.highest"
SEEDS = fresh_seeds(12)

GRIDS: dict[str, list[dict[str, Any]]] = {
    "rate": [{_LR: ["2^-7", "2^-6", "2^-5", "2^-4", "2^-3"]}],
    "strength": [{_STRENGTH: ["2^-4", "2^-3", "2^-2", "2^-1", "2^0"]}],
    "rate_64": [{_BATCH: 64}, {_LR: ["2^-5", "2^-2"]}],
    "strength_32": [{_BATCH: 32, _EPOCHS: 200, _CADENCE: 20}, {_STRENGTH: [0.0, "2^0"]}],
    "repeats": [{"data.repeats": [1, 4]}, {_LR: ["2^-5"]}],
}
"""Of configs/sweeps/quick/fashion_mlp.yaml, where ε = 2⁻⁷, λ = 0 and B = 16."""

Point = tuple[str, dict[str, float]]
_SMALL: Point = ("rate", {_LR: 2**-7})
PAIRS: dict[str, tuple[str, Point, Point]] = {
    "λ = 2⁻¹ against 0": ("F6a", ("strength", {_STRENGTH: 2**-1}), _SMALL),
    "ε = 2⁻⁴ against 2⁻⁷": ("F6a", ("rate", {_LR: 2**-4}), _SMALL),
    "B = 64: ε/B as at B = 16": ("F6b", ("rate_64", {_LR: 2**-2}), ("rate_64", {_LR: 2**-5})),
    "B = 32: λ/B as at B = 16": ("F6c", ("strength_32", {_STRENGTH: 1}), ("strength_32", {_STRENGTH: 0})),
    "n = 4 against 1, ε = 2⁻⁵": ("F7a", ("repeats", {"data.repeats": 4}), ("repeats", {"data.repeats": 1})),
}
"""In words: the claim, the runs that are to be better, and those they are compared with."""

_REASONS = {
    "F6b": "; at equal epochs B = 64 makes a quarter of the updates of B = 16",
    "F7a": "; at equal epochs n = 4 makes four times as many updates, which at this size gains nothing",
}
"""Why a claim does not show, as far as that is known."""


def evidence(store: Path) -> Evidence:
    """Tables ``accuracy``, by grid, ε, λ and seed, and ``pairs``, a difference for each pair and seed."""
    cells = load_sweep(store).cells
    rows = [
        {"grid": grid, "lr": lr, "reg_strength": strength, "seed": seed, "accuracy": accuracy}
        for grid, lr, strength, seed, accuracy in zip(
            cells["grid"], _column(cells, _LR, 2**-7), _column(cells, _STRENGTH, 0.0), cells["seed"],
            cells[_METRIC], strict=True,
        )
    ]  # fmt: skip
    pairs: list[Row] = []
    findings = []
    for words, (claim, better, base) in PAIRS.items():
        ahead, behind = _by_seed(cells, better), _by_seed(cells, base)
        gains = np.array([ahead[seed] - behind[seed] for seed in ahead])
        each = zip(ahead, gains.tolist(), strict=True)
        pairs += [{"pair": words, "claim": claim, "seed": seed, "difference": gain} for seed, gain in each]
        findings.append(_finding(claim, words, gains, _REASONS.get(claim, "")))
    return Evidence({"accuracy": rows, "pairs": pairs}, findings, seeds=in_words(len(SEEDS)))


def _column(cells: Mapping[str, list[Any]], key: str, default: float) -> list[float]:
    given = cells.get(key, [None] * len(cells["seed"]))
    return [default if value is None else float(value) for value in given]


def _by_seed(cells: Mapping[str, list[Any]], point: Point) -> dict[int, float]:
    """The highest test accuracy of a point's runs, by seed; NaN where a run diverged."""
    grid, values = point
    chosen = [
        k
        for k, name in enumerate(cells["grid"])
        if name == grid and all(float(cells[key][k]) == value for key, value in values.items())
    ]
    found = {cells["seed"][k]: cells[_METRIC][k] for k in chosen if cells["state"][k] == "finished"}
    return {cells["seed"][k]: found.get(cells["seed"][k], math.nan) for k in chosen}


def _finding(claim: str, words: str, gains: np.ndarray, reason: str) -> Finding:
    low, high = t_interval(gains)
    return Finding(
        claim,
        f"highest test accuracy, mean paired difference: {words}",
        "interval above 0",
        f"{gains.mean():+.4f}",
        bool(low > 0),
        f"[{low:+.4f}, {high:+.4f}], 95 % by Student's t over {len(gains)} seeds",
        f"higher in {int((gains > 0).sum())} of {len(gains)} pairs{reason}",
    )


def draw(tables: Tables) -> dict[str, Figure]:
    """Accuracy over ε and over λ; the differences within pairs."""
    figure, (curves, pairs) = panels(1, 2, 5.4, 3.8)
    rows = select(tables["accuracy"], grid="rate", lr=2**-7)
    base = float(np.mean([row["accuracy"] for row in rows]))
    for k, (grid, key, label) in enumerate(
        (("rate", "lr", "over ε, λ = 0"), ("strength", "reg_strength", "over λ, ε = 2⁻⁷"))
    ):
        _draw_curve(curves, select(tables["accuracy"], grid=grid), key, label, COLORS[k], base - _FAR)
    curves.axhline(base, color="0.4", linestyle="--", linewidth=1, label="ε = 2⁻⁷, λ = 0")
    seeds = len({row["seed"] for row in tables["accuracy"]})
    finish(curves, f"mean of {seeds} seeds, 95 % interval", "ε, or λ", "highest test accuracy", log="x")
    binary_ticks(curves, [row["reg_strength"] or row["lr"] for row in tables["accuracy"]])
    _draw_pairs(pairs, tables["pairs"])
    return {"paired_accuracy": figure}


def _draw_curve(ax: Axes, rows: list[Row], key: str, label: str, color: str, floor: float) -> None:
    """Means and their intervals; those below ``floor`` are arrows on the axis with their number."""
    places = np.array(sorted({row[key] for row in rows}))
    values = np.array([[row["accuracy"] for row in select(rows, **{key: place})] for place in places], float)
    means = values.mean(1)
    ends = np.array([t_interval(own) for own in values]).T
    reach, near = np.abs(ends - means), means > floor
    ax.errorbar(places[near], means[near], reach[:, near], color=color, marker="o", markersize=4, capsize=3,
                label=label)  # fmt: skip
    edge = ax.get_xaxis_transform()
    for place, mean in zip(places[~near], means[~near], strict=True):
        ax.plot(place, 0.03, "v", color=color, markersize=7, transform=edge)
        ax.annotate(f"{mean:.3f}, far below", (place, 0.03), (-8, 0), xycoords=edge,
                    textcoords="offset points", ha="right", va="center", fontsize=8, color=color)  # fmt: skip


def _draw_pairs(ax: Axes, rows: list[Row]) -> None:
    names = list(dict.fromkeys(row["pair"] for row in rows))
    for k, name in enumerate(reversed(names)):
        own = np.array([row["difference"] for row in rows if row["pair"] == name])
        low, high = t_interval(own)
        ax.plot(own, np.full(len(own), k), ".", color="0.65", markersize=5, zorder=1)
        around = [[own.mean() - low], [high - own.mean()]]
        ax.errorbar(own.mean(), k, xerr=around, fmt="o", color=COLORS[0], capsize=4)
    ax.axvline(0, color="0.4", linestyle="--", linewidth=1)
    title = "within pairs of equal seed, 95 % interval"
    finish(ax, title, "difference of test accuracy", "", legend=False, log="")
    ax.set_yticks(range(len(names)), names[::-1])
