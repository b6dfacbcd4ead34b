"""B6 to B9 of the blog: matrix sensing by deep normalised networks, over the target's scale and the rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.papers.claim import Finding
from sgdlit.papers.paper import Evidence, Experiment, Row, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import ONE_SEED, in_words
from sgdlit.papers.support.seed_findings import in_every_seed
from sgdlit.papers.support.sensing_runs import (
    MEMBERS,
    ONE_RUN,
    QUIET,
    SEEDS,
    SQUARED_ERROR,
    shown_error,
    trained,
)
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What larger networks are trained with: B6 and B7

_DEEP = {"B6": ("cnn", 0.25, "BatchNorm and momentum"), "B7": ("transformer", 0.2, "LayerNorm and Adam")}


def measure_deep(options: object, workshop: Workshop) -> Evidence:
    """Table ``deep``: squared error of unseen minibatches over samples, by network and seed."""
    evidence = Evidence({"deep": []}, seeds=in_words(len(SEEDS)))
    for i, (claim, (config, limit, what)) in enumerate(_DEEP.items()):
        file = f"matrix_sensing/{config}{'_small' if workshop.quick else ''}.yaml"
        members = load_run(workshop.fit(config, file, *QUIET, *MEMBERS)).members
        for seed, member in zip(SEEDS, members, strict=True):
            seen, errors = (member.columns[name][1] for name in ("sensing/samples", SQUARED_ERROR))
            evidence.tables["deep"] += [
                {"network": what, "seed": seed, "samples": int(s), "error": float(e)}
                for s, e in zip(seen, errors, strict=True)
            ]
        statement = f"ReLU, {what}: Σ(y − p)²/Σy² of the last 20 unseen minibatches"
        ends = [float(member.columns[SQUARED_ERROR][1][-1]) for member in members]
        evidence.findings.append(in_every_seed(claim, statement, ends, high=limit))
        workshop.progress("networks", i + 1, len(_DEEP))
    return evidence


def draw_deep(tables: Tables) -> dict[str, Figure]:
    """Squared error over samples."""
    figure, (ax,) = panels(1, 1, width=5.2, height=3.8)
    for i, network in enumerate(distinct(tables["deep"], "network")):
        for k, seed in enumerate(distinct(tables["deep"], "seed")):
            rows = select(tables["deep"], network=network, seed=seed)
            ax.plot([r["samples"] for r in rows], [r["error"] for r in rows], color=COLORS[i], linewidth=1,
                    label=f"{network}, each seed" if k == 0 else None)  # fmt: skip
    ax.axhline(0.5, color=COLORS[6], linestyle="--", linewidth=1, label="least squares, d²/2 samples: 0.5")
    title = "Matrix sensing by deep networks (B6, B7)"
    finish(ax, title, "samples seen, each once", "Σ(y − p)² / Σy², unseen minibatches", log="y")
    return {"deep": figure}


# The scale of the target, and a warm-up: B8 and B9

_CNN_LR, _CNN_GAMMA = 1e-5, 0.04  # those of cnn_small.yaml
_TARGETS = (
    [("lr fixed", gamma, _CNN_LR) for gamma in (0.004, 0.04, 0.4, 4.0)]
    + [("lr·γ fixed", gamma, _CNN_LR * _CNN_GAMMA / gamma) for gamma in (0.4, 4.0, 100.0)]
)  # fmt: skip
_WARMED_LRS = (1e-5, 4e-5, 1.6e-4, 6.4e-4)
_WARM_UP = [
    "--model.scheduler", "sgdlit.training.schedules.SampleWarmUp",
    "--model.scheduler.samples", "16384", "--model.scheduler.batch_size", "32",
]  # fmt: skip
_SMALL_CNN = "matrix_sensing/cnn_small.yaml"


def measure_settings(options: object, workshop: Workshop) -> Evidence:
    """Tables ``targets``, the error over γ, and ``warm_up``, over the rate with and without."""
    rules, gammas, lrs = (list(column) for column in zip(*_TARGETS, strict=True))
    points = f"[{{data.gamma: {gammas}, model.optimizer.lr: {lrs}}}]"
    errors = _unseen_errors(workshop.fit("targets", _SMALL_CNN, *QUIET, *ONE_SEED, "--ensemble", points))
    targets: list[Row] = [
        {"rule": rule, "gamma": gamma, "lr": lr, "error": error}
        for rule, gamma, lr, error in zip(rules, gammas, lrs, errors, strict=True)
    ]
    workshop.progress("ensembles", 1, 3)
    rows: list[Row] = []
    for k, (name, schedule) in enumerate((("constant", []), ("warm_up", _WARM_UP))):
        points = f"[{{model.optimizer.lr: {list(_WARMED_LRS)}}}]"
        folder = workshop.fit(f"rates_{name}", _SMALL_CNN, *QUIET, *ONE_SEED, *schedule, "--ensemble", points)
        found = zip(_WARMED_LRS, _unseen_errors(folder), strict=True)
        rows += [{"schedule": name, "lr": lr, "error": error} for lr, error in found]
        workshop.progress("ensembles", 2 + k, 3)
    findings = [*_about_targets(targets), *_about_warm_up(rows)]
    return Evidence({"targets": targets, "warm_up": rows}, findings, seeds=in_words(1))


def _unseen_errors(folder: Path) -> list[float | None]:
    """Σ(y − p)²/Σy² of the last unseen minibatches of each member; None where it diverged."""
    members = load_run(folder).members
    return [
        None if member.state == "diverged" else float(member.columns[SQUARED_ERROR][1][-1])
        for member in members
    ]


def _about_targets(rows: list[Row]) -> list[Finding]:
    """B8."""
    fixed, scaled = (select(rows, rule=rule) for rule in ("lr fixed", "lr·γ fixed"))
    learned = [row["gamma"] for row in fixed if row["error"] is not None and row["error"] < 0.25]
    shown = ", ".join(shown_error(row["error"]) for row in fixed)
    others = ", ".join(f"{shown_error(row['error'])} at γ = {row['gamma']:g}" for row in scaled)
    statement = "BatchNorm, three layers, one rate: Σ(y − p)²/Σy² at the end at γ = 0.004, 0.04, 0.4 and 4"
    note = (
        f"with lr·γ fixed it is {others}: larger targets are learned as well once the rate goes with them; "
        "the preference is that of a rate"
    )
    holds = learned == [_CNN_GAMMA]
    return [Finding("B8", statement, "below 0.25 at γ = 0.04 alone", shown, holds, ONE_RUN, note)]


def _about_warm_up(rows: list[Row]) -> list[Finding]:
    """B9."""
    usable = {
        name: max(
            (r["lr"] for r in select(rows, schedule=name) if r["error"] and r["error"] < 0.25), default=0
        )
        for name in ("constant", "warm_up")
    }
    statement = "largest rate that ends below an error of 0.25, constant, and reached by a warm-up"
    shown, holds = f"{usable['constant']:g} and {usable['warm_up']:g}", usable["warm_up"] > usable["constant"]
    return [
        Finding("B9", statement, "larger with a warm-up", shown, holds, "none: a grid of rates, one seed")
    ]


def draw_settings(tables: Tables) -> dict[str, Figure]:
    """The error over γ, and over the rate with and without a warm-up; runs that diverged at the top."""
    figure, (left, right) = panels(1, 2)
    curves = [
        (left, "gamma", select(tables["targets"], rule=rule), rule)
        for rule in distinct(tables["targets"], "rule")
    ]
    curves += [
        (right, "lr", select(tables["warm_up"], schedule=name), name.replace("_", "-"))
        for name in ("constant", "warm_up")
    ]
    for ax, column, rows, label in curves:
        color = COLORS[len(ax.lines) % len(COLORS)]
        x = [row[column] for row in rows]
        ax.plot(
            x, [min(row["error"] or 3.0, 3.0) for row in rows], "o-", color=color, markersize=4, label=label
        )
    for ax in (left, right):
        ax.axhline(
            0.5, color=COLORS[6], linestyle="--", linewidth=1, label="least squares, d²/2 samples: 0.5"
        )
    finish(left, "B8: the scale of the target (3 = diverged)", "γ", "Σ(y − p)² / Σy²")
    left.set_ylim(top=15)
    finish(right, "B9: a warm-up (3 = diverged)", "learning rate", "Σ(y − p)² / Σy²")
    return {"settings": figure}


DEEP_NETWORKS = Experiment(
    "deep",
    (
        trained(
            "B6",
            "depth, ReLU, BatchNorm and momentum learn it too",
            "an error below 0.25",
            f"three layers, d = 256, 32 768 samples, {len(SEEDS)} seeds",
            f"ten layers, d = 1024, 524 288 samples, {len(SEEDS)} seeds",
            "cnn.yaml",
        ),
        trained(
            "B7",
            "depth, ReLU, LayerNorm and Adam learn it too",
            "an error below 0.2",
            f"three layers, d = 256, 32 768 samples, {len(SEEDS)} seeds",
            f"ten layers, d = 1024, 524 288 samples, {len(SEEDS)} seeds",
            "transformer.yaml",
        ),
    ),
    measure_deep,
    draw_deep,
)
SETTINGS = Experiment(
    "settings",
    (
        trained(
            "B8",
            "deep normalised networks want smaller targets than the simple setting",
            "at one rate an error below 0.25 at γ = 0.04 alone, where the simple setting learns at 100 (B3)",
            "three layers, d = 256, 32 768 samples, γ = 0.004 to 4, and to 100 at lr·γ fixed",
            "ten layers, d = 1024, 524 288 samples, over data.gamma",
            "cnn.yaml",
        ),
        trained(
            "B9",
            "a warm-up allows a larger final rate",
            "the largest rate that ends below an error of 0.25 is larger",
            "three layers, d = 256, 32 768 samples, four rates",
            "ten layers, d = 1024, 524 288 samples",
            "warmup.yaml",
        ),
    ),
    measure_settings,
    draw_settings,
)
