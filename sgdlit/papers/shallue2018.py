"""Shallue et al. 2018, as in the lecture: steps to a target fall as 1/B at small batches, then hardly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from sgdlit.figures.style import COLORS, MARKERS, binary_ticks, distinct, finish, panels, select
from sgdlit.foundations.files import read_table
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, NoOptions, Paper, Row, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import FIRST, SPLIT, fresh_seeds, in_words
from sgdlit.papers.support.full_sweeps import drawn_by_sweeps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZES = (1, 4, 128, 512)
_SEEDS = 3
_LR, _BEST_LR = "lr", "best model.optimizer.lr"
_MEDIANS = "none: medians of three seeds, compared with a margin"
_FULL = ("lecture/g4_fashion_simple_cnn.yaml", "lecture/g4_cifar10_resnet8.yaml")


def measure(o: NoOptions, workshop: Workshop) -> Evidence:
    """Table ``steps``: the fewest steps by curve and batch size, with the rate that took them."""
    if not workshop.quick:
        return drawn_by_sweeps(workshop, *_FULL)
    fresh, teacher = {"seeds": fresh_seeds(_SEEDS)}, ("--data.teacher_seed", str(FIRST))
    store = workshop.sweep("targets", "sweeps/quick/teacher_targets.yaml", *teacher, changed=fresh)
    rows = _fewest_steps(store, "SGD", "averaged")
    found = {(row["curve"], row["batch_size"]): row for row in rows}
    findings = [*_scaling(found), *_averaging(found), *_best_lrs(found)]
    return Evidence({"steps": rows}, findings, seeds=in_words(_SEEDS))


def _fewest_steps(store: Path, *curves: str) -> list[Row]:
    """Of some curves of the figure ``steps``, at each batch size, with the rate that took them."""
    return [
        {"curve": row["curve"], "batch_size": int(row["x"]),
         "steps": float(row["center"]) if row["center"] else None,
         _LR: float(row[_BEST_LR]) if row[_BEST_LR] else None}
        for row in read_table(store / "figures" / "steps.csv")
        if row["curve"] in curves
    ]  # fmt: skip


def _scaling(found: dict[tuple[str, int], Row]) -> list[Finding]:
    """G4."""
    statement = "−d log T/d log B of SGD from B = {} to {}"
    parts = (
        (1, 4, "1 ± 0.25", 0.75, 1.25),
        (4, 128, "0.1 to 0.7", 0.1, 0.7),
        (128, 512, "0 ± 0.15", -0.15, 0.15),
    )
    findings = []
    for small, large, predicted, low, high in parts:
        fall = math.log(found["SGD", small]["steps"] / found["SGD", large]["steps"])
        exponent = fall / math.log(large / small)
        findings.append(
            Finding(
                "G4",
                statement.format(small, large),
                predicted,
                f"{exponent:.2f}",
                low <= exponent <= high,
                _MEDIANS,
            )
        )
    return findings


def _averaging(found: dict[tuple[str, int], Row]) -> list[Finding]:
    """G5."""
    small, large = (found["averaged", b]["steps"] / found["SGD", b]["steps"] for b in (4, 512))
    statement = "steps of averaged iterates over those of SGD at B = {}"
    return [
        Finding("G5", statement.format(4), "< 0.85", f"{small:.2f}", small < 0.85, _MEDIANS),
        Finding("G5", statement.format(512), "> 0.9", f"{large:.2f}", large > 0.9, _MEDIANS),
    ]


def _best_lrs(found: dict[tuple[str, int], Row]) -> list[Finding]:
    """G7: proportional to B in the noise regime, then capped by the curvature."""
    best = [found["SGD", size][_LR] for size in _SIZES]
    holds = best[0] < best[1] and best[2] == best[3] and best[2] < 32 * best[1]
    shown = ", ".join(f"{lr:.4g}" for lr in best)
    statement = "best rate of SGD at B = 1, 4, 128 and 512"
    return [
        Finding(
            "G7", statement, "grows, less than as B, and then no more", shown, holds, "none: a grid of rates"
        )
    ]


def draw(tables: Tables) -> dict[str, Figure]:
    """Steps over the batch size, and perfect scaling."""
    rows = tables["steps"]
    figure, (ax,) = panels(1, 1, width=4.8, height=3.8)
    for i, curve in enumerate(distinct(rows, "curve")):
        here = [row for row in select(rows, curve=curve) if row["steps"] is not None]
        x, y = [r["batch_size"] for r in here], [r["steps"] for r in here]
        ax.plot(x, y, color=COLORS[i], marker=MARKERS[i], markersize=4, label=curve)
    first = next(row for row in rows if row["steps"] is not None)
    y = [first["steps"] * first["batch_size"] / size for size in _SIZES]
    ax.plot(_SIZES, y, "k--", linewidth=1, label="perfect scaling")
    finish(ax, "MLP on a teacher (G4, G5)", "batch size B (examples)", "steps to a test loss of 0.12")
    binary_ticks(ax, _SIZES)
    return {"steps": figure}


# A second-order method, and convolutions


def measure_second_order(o: NoOptions, workshop: Workshop) -> Evidence:
    """Table ``second_order``: the fewest steps by optimizer and batch size, with the rate that took them."""
    if not workshop.quick:
        return drawn_by_sweeps(workshop, _FULL[0])
    if workshop.data is None:
        return Evidence(notes=["G5b left out: no data folder (--data or SGDLIT_DATA)"])
    arguments = [*SPLIT, "--data.root", str(workshop.data)]
    fresh = {"seeds": fresh_seeds(_SEEDS)}
    store = workshop.sweep("second_order", "sweeps/quick/second_order.yaml", *arguments, changed=fresh)
    rows = _fewest_steps(store, "SGD", "K-FAC")
    findings = _gains({(r["curve"], r["batch_size"]): r for r in rows})
    return Evidence({"second_order": rows}, findings, seeds=in_words(_SEEDS))


def _gains(found: dict[tuple[str, int], Row]) -> list[Finding]:
    """By which factor K-FAC needs fewer steps; a target that is not reached is infinitely far."""
    steps = {key: math.inf if row["steps"] is None else row["steps"] for key, row in found.items()}
    small, large = (steps["SGD", size] / steps["K-FAC", size] for size in (4, 512))
    statement = "steps of SGD over those of K-FAC, best rates, at B = 512{}"
    return [
        Finding("G5b", statement.format(""), "> 3", f"{large:.2f}", large > 3, _MEDIANS),
        Finding("G5b", statement.format(", over that at B = 4"), "> 1.3", f"{large / small:.2f}",
                large > 1.3 * small, _MEDIANS, f"at B = 4 it is {small:.2f}"),
    ]  # fmt: skip


def draw_second_order(tables: Tables) -> dict[str, Figure]:
    """Steps over the batch size, of both optimizers, and perfect scaling."""
    rows = [row for row in tables["second_order"] if row["steps"] is not None]
    figure, (ax,) = panels(1, 1, width=4.8, height=3.8)
    for i, curve in enumerate(distinct(rows, "curve")):
        here = select(rows, curve=curve)
        x, y = [r["batch_size"] for r in here], [r["steps"] for r in here]
        ax.plot(x, y, color=COLORS[i], marker=MARKERS[i], markersize=5, label=curve)
        ax.plot([4, 32], [y[0], y[0] / 8], "--", color=COLORS[i], linewidth=1, alpha=0.6)
    for size in distinct(rows, "batch_size"):
        here = select(rows, batch_size=size)
        few, many = sorted(r["steps"] for r in here) if len(here) == 2 else (1.0, 1.0)
        ax.vlines(size, few, many, color="0.6", linestyle=":")
        ax.annotate(f"{many / few:.1f}×", (1.08 * size, (few * many) ** 0.5))
    ax.plot([], [], "k--", linewidth=1, label="perfect scaling")
    finish(
        ax,
        "simple CNN on Fashion-MNIST (G5b), medians over seeds",
        "batch size B",
        "steps to a validation loss of 0.65",
    )
    binary_ticks(ax, [2**k for k in range(2, 10)])
    ax.set_xlim(3, 1100)
    return {"second_order": figure}


_QUICK = "an MLP 16–32–1 on a noisy teacher, B = 1, 4, 128, 512, the rate tuned, three seeds"


_SOURCE = "Shallue et al. 2018, arXiv 1811.03600; Grosse, CSC 2541 lecture 7"


def _claim(identity: str, statement: str, prediction: str) -> Claim:
    source = f"{_SOURCE}, {identity}"
    full = "the simple CNN on Fashion-MNIST and ResNet-8 on CIFAR-10"
    return Claim(identity, statement, source, "trained", prediction, _QUICK, full, f"sweeps/{_FULL[0]}")


PAPER = Paper(
    "shallue2018",
    "Shallue et al. 2018, Measuring the effects of data parallelism, arXiv 1811.03600",
    (
        Experiment(
            "targets",
            (
                _claim(
                    "G4",
                    "steps to a target fall as 1/B while batches are small, and hardly once they are large",
                    "powers of −1 ± 0.25 and 0 ± 0.15",
                ),
                _claim(
                    "G5",
                    "averaged iterates save most steps at small batches",
                    "below 0.85 of SGD's at B = 4, above 0.9 at B = 512",
                ),
                _claim(
                    "G7", "the best rate grows with the batch, and then no more", "equal at B = 128 and 512"
                ),
            ),
            measure,
            draw,
            data_at_full=("fashion-mnist", "cifar10"),
        ),
        Experiment(
            "second_order",
            (
                Claim(
                    "G5b",
                    "a second-order method, K-FAC, gains most at large batches",
                    f"{_SOURCE}, G5",
                    "trained",
                    "a third of SGD's steps at B = 512 or fewer, a gain 1.3 times that at B = 4",
                    "a CNN of two convolutions on Fashion-MNIST, B = 4 and 512, rates tuned, three seeds",
                    "the simple CNN on Fashion-MNIST",
                    f"sweeps/{_FULL[0]}",
                ),
            ),
            measure_second_order,
            draw_second_order,
            needs_data=True,
        ),
    ),
)
