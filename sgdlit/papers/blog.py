"""The blog on implicit bias in single-epoch SGD: matrix sensing from a stream, and what it is compared with.

B1 and B3 to B9 train networks on d²/2 rank-one measurements, each seen once. B2 is the baseline without a
prior on the rank, B10 the bound that holds for convex losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import error_limit, mean_and_error
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLOG = "Implicit bias in single epoch SGD (blog)"


@dataclass
class LeastSquaresOptions:
    """B2: the matrix of smallest norm that agrees with n rank-one measurements y = aᵀTb.

    Args:
        d: side of T. At 256 a draw at n = d²/2 takes about half a minute.
        r: rank of T, which plays no part.
        shares: the n/d², below 1.
        draws: of T and of the measurements, for each n.
        tolerance: of conjugate gradients, on the residual relative to y.
        seed: of all draws.
    """

    d: int = 64
    r: int = 2
    shares: list[float] = field(default_factory=lambda: [0.125, 0.25, 0.5, 0.75])
    draws: int = 10
    tolerance: float = 1e-5
    seed: int = 0


@dataclass
class ConvexOptions:
    """B10: one pass of SGD over convex Lipschitz losses f_a(x) = |aᵀ(x − x*)|, ‖a‖ = 1.

    Args:
        dimensions: of x.
        distance: ‖x¹ − x*‖.
        steps: the K.
        runs: independent runs for each K.
        seed: of all draws.
    """

    dimensions: int = 10
    distance: float = 1.0
    steps: list[int] = field(default_factory=lambda: [10, 30, 100, 300, 1000, 3000])
    runs: int = 200
    seed: int = 0


@dataclass
class Options:
    """Minimum-norm least squares (B2), and online SGD on convex losses (B10).

    Symbols: in ``least_squares`` T = G·G′ of rank r, d × d; a, b ~ N(0, I); M what is found. It misses the
    part of T outside the span of the a bᵀ: E ‖M − T‖²/‖T‖² = 1 − n/d², so the ratio is 0.707 at n = d²/2. In
    ``convex`` (F1) K steps, 𝓑 = 1 the bound on the gradients, learning rate η = ‖x¹ − x*‖/(𝓑√K); the mean of
    the best iterate's loss is at most ‖x¹ − x*‖𝓑/√K.

    Args:
        least_squares: of B2.
        convex: of B10.
    """

    least_squares: LeastSquaresOptions = field(default_factory=LeastSquaresOptions)
    convex: ConvexOptions = field(default_factory=ConvexOptions)


# The simple setting, at the size of the source: B1

_ERROR, _SQUARED_ERROR = "sensing/relative_error", "sensing/relative_squared_error"
_ONE_RUN = "none: one run, compared with published numbers"
_QUIET = [
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.logger",
    "false",
]


def measure_recovery(o: Options, workshop: Workshop) -> Evidence:
    """Table ``recovery``: relative error over samples."""
    folder = workshop.fit("simple", "matrix_sensing/simple.yaml", *_QUIET)
    steps, errors = load_run(folder).column(_ERROR)
    early = errors[(steps >= 100) & (steps <= 5000)].min()
    middle = float(errors[steps == 15_000][0])
    small = steps[errors < 0.01]
    first = int(small[0]) if len(small) else None
    found = [
        ("least error up to 5000 samples", "> 0.97", f"{early:.3f}", bool(early > 0.97)),
        ("error at 15 000 samples (published 0.13)", "0.06 to 0.2", f"{middle:.3f}", 0.06 < middle < 0.2),
        ("samples to an error below 0.01", "< 25000", str(first), first is not None and first < 25_000),
        ("error at the end (published < 0.006)", "< 0.006", f"{errors[-1]:.4f}", bool(errors[-1] < 0.006)),
    ]  # fmt: skip
    findings = [Finding("B1", *one, interval=_ONE_RUN) for one in found]
    rows = [{"samples": int(s), "error": float(e)} for s, e in zip(steps, errors, strict=True)]
    return Evidence({"recovery": rows}, findings)


def draw_recovery(tables: Tables) -> dict[str, Figure]:
    """Error over samples, and the baseline."""
    figure, (ax,) = panels(1, 1, width=5.2, height=3.8)
    rows = tables["recovery"]
    ax.plot(
        [r["samples"] for r in rows], [r["error"] for r in rows], color=COLORS[0], label="trained network"
    )
    ax.axhline(
        0.5**0.5, color=COLORS[6], linestyle="--", linewidth=1, label="least squares, d²/2 samples: 0.707"
    )
    finish(ax, "Matrix sensing (B1)", "samples seen, each once", "‖M − T‖ / ‖T‖", log="y")
    return {"recovery": figure}


# Small instances: B3, B4, B5

_INSTANCES = [(128, 0.25, 100.0), (128, 1.0, 100.0), (128, 4.0, 100.0), (128, 1.0, 0.1), (128, 1.0, 1.0),
              (128, 1.0, 10.0), (32, 1.0, 100.0), (64, 1.0, 100.0)]  # fmt: skip
"""d, the learning rate as a multiple of the protocol's, and γ."""


def protocol_lr(d: int, gamma: float = 100.0) -> float:
    """lr = 0.131/(γ d²), which is B1's 2e-8 at d = 256, γ = 100 (B5)."""
    return 0.131 / (gamma * d * d)


def measure_instances(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``instances``, the error at the end of each, and ``scaled``, of two runs that should be one."""
    rows: list[Row] = []
    for d in sorted({d for d, *_ in _INSTANCES}):
        rows += _ends(workshop, d, [(factor, gamma) for size, factor, gamma in _INSTANCES if size == d])
        workshop.progress("sizes", len({row["d"] for row in rows}), len({d for d, *_ in _INSTANCES}))
    end = {(row["d"], row["factor"], row["gamma"]): row["error"] for row in rows}
    scaled = _scaled(workshop)
    return Evidence(
        {"instances": rows, "scaled": scaled},
        [*_about_lr(end), *_about_scale(end, scaled), *_about_size(end)],
    )


def _ends(workshop: Workshop, d: int, instances: Sequence[tuple[float, float]]) -> list[Row]:
    """The error after d²/2 samples for each factor and γ; None where the run diverged."""
    lrs = [factor * protocol_lr(d, gamma) for factor, gamma in instances]
    gammas = [gamma for _, gamma in instances]
    if len(instances) > 1:
        points = ["--ensemble", f"[{{data.gamma: {gammas}, model.optimizer.lr: {lrs}}}]"]
    else:
        points = ["--data.gamma", repr(gammas[0]), "--model.optimizer.lr", repr(lrs[0])]
    folder = workshop.fit(f"d{d}", "matrix_sensing/simple.yaml", *_QUIET, *_of_size(d), *points)
    rows = []
    for (factor, gamma), member in zip(instances, load_run(folder).members, strict=True):
        diverged = member.state == "diverged"
        error = None if diverged else float(member.columns[_ERROR][1][-1])
        rows.append({"d": d, "factor": factor, "gamma": gamma, "error": error,
                     "diverged_at": member.step if diverged else None})  # fmt: skip
    return rows


def _of_size(d: int) -> list[str]:
    return [
        "--data.d", str(d), "--data.steps", str(d * d // 2), "--model.network.net.widths", f"[{d},{d},{d}]",
        "--trainer.val_check_interval", str(d * d // 2),
    ]  # fmt: skip


def _scaled(workshop: Workshop) -> list[Row]:
    """W = sW′ and T = s²T′ in float64: with η′ = s²η the two runs are the same but for the scale."""
    s, d, gamma, lr = 2.0, 16, 2.0, 1e-3  # a power of two scales float32 without rounding
    rows = []
    for name, init_scale, of_target, rate in (
        ("large", 1.0, gamma, lr),
        ("small", 1 / s, gamma / s**2, lr * s**2),
    ):
        folder = workshop.fit(
            f"scaled_{name}", "matrix_sensing/simple.yaml", *_QUIET, *_of_size(d), "--trainer.precision",
            "64-true", "--data.gamma", repr(of_target), "--model.optimizer.lr", repr(rate),
            "--model.network.net.init_scale", repr(init_scale),
        )  # fmt: skip
        run = load_run(folder)
        error = float(run.column(_ERROR)[1][-1])
        rows.append({"start": name, "gamma": of_target, "lr": rate, "init_scale": init_scale, "error": error})
    return rows


def _about_lr(end: dict[tuple[int, float, float], float | None]) -> list[Finding]:
    """B3."""
    slow, right, fast = (end[128, factor, 100.0] for factor in (0.25, 1.0, 4.0))
    shown = "diverged" if fast is None else f"{fast:.3f}"
    found = [
        ("d = 128: error at the end at a quarter of the protocol's rate", "> 0.95", _shown(slow),
         slow is not None and slow > 0.95),
        ("d = 128: error at the end at the protocol's rate", "< 0.15", _shown(right),
         right is not None and right < 0.15),
        ("d = 128: at four times the protocol's rate", "diverged", shown, fast is None),
    ]  # fmt: skip
    return [Finding("B3", *one, interval=_ONE_RUN) for one in found]


def _about_scale(end: dict[tuple[int, float, float], float | None], scaled: list[Row]) -> list[Finding]:
    """B4."""
    small, one, large = (end[128, 1.0, gamma] for gamma in (0.1, 1.0, 10.0))
    shown = ", ".join(map(_shown, (small, one, large)))
    learned = one is not None and large is not None and large < 0.6 * one < 0.12
    holds = small is None and learned
    apart = abs(scaled[1]["error"] / scaled[0]["error"] - 1)
    return [
        Finding("B4", "d = 128: error at the end at γ = 0.1, 1 and 10, lr·γ fixed",
                "diverged, then below 0.2, then 0.6 of that", shown, holds, _ONE_RUN),
        Finding("B4", "d = 16: error at the end with start and target scaled down, the rate up, relative",
                "< 1e-10", f"{apart:.1e}", apart < 1e-10, "none: an identity"),
    ]  # fmt: skip


def _about_size(end: dict[tuple[int, float, float], float | None]) -> list[Finding]:
    """B5."""
    ends = [end[d, 1.0, 100.0] for d in (32, 64, 128)]
    reached = [error for error in ends if error is not None]
    falls = all(later < earlier for earlier, later in pairwise(reached))
    holds = len(reached) == len(ends) and reached[0] > 0.9 and falls and reached[-1] < 0.15
    shown, statement = ", ".join(map(_shown, ends)), "error at the end at d = 32, 64 and 128"
    return [Finding("B5", statement, "from above 0.9 down below 0.15", shown, holds, _ONE_RUN)]


def _shown(error: float | None) -> str:
    return "diverged" if error is None else f"{error:.3f}"


def draw_instances(tables: Tables) -> dict[str, Figure]:
    """The error at the end over rate, over γ, and over d; runs that diverged are left out."""
    rows = [row for row in tables["instances"] if row["error"] is not None]
    figure, axes = panels(1, 3)
    parts = (
        ("B3: the rate, d = 128", "lr over that of the protocol", "factor", {"d": 128, "gamma": 100.0}),
        ("B4: the target's scale, d = 128", "γ, with lr·γ fixed", "gamma", {"d": 128, "factor": 1.0}),
        ("B5: the size", "d", "d", {"factor": 1.0, "gamma": 100.0}),
    )
    for ax, (title, label, column, only) in zip(axes, parts, strict=True):
        here = sorted(select(rows, **only), key=lambda row: row[column])
        x, y = [r[column] for r in here], [r["error"] for r in here]
        ax.plot(x, y, "o-", color=COLORS[0], markersize=4)
        finish(ax, title, label, "‖M − T‖ / ‖T‖ at the end", legend=False)
    return {"instances": figure}


# What larger networks are trained with: B6 and B7

_DEEP = {"B6": ("cnn", 0.25, "BatchNorm and momentum"), "B7": ("transformer", 0.2, "LayerNorm and Adam")}


def measure_deep(o: Options, workshop: Workshop) -> Evidence:
    """Table ``deep``: squared error of unseen minibatches over samples."""
    evidence = Evidence({"deep": []})
    for i, (claim, (config, limit, what)) in enumerate(_DEEP.items()):
        file = f"matrix_sensing/{config}{'_small' if workshop.quick else ''}.yaml"
        folder = workshop.fit(config, file, *_QUIET)
        run = load_run(folder)
        seen, (_, errors) = run.column("sensing/samples")[1], run.column(_SQUARED_ERROR)
        evidence.tables["deep"] += [
            {"network": what, "samples": int(s), "error": float(e)} for s, e in zip(seen, errors, strict=True)
        ]
        statement = f"ReLU, {what}: Σ(y − p)²/Σy² of the last 20 unseen minibatches"
        evidence.findings.append(
            Finding(claim, statement, f"< {limit}", f"{errors[-1]:.3f}", bool(errors[-1] < limit), _ONE_RUN)
        )
        workshop.progress("networks", i + 1, len(_DEEP))
    return evidence


def draw_deep(tables: Tables) -> dict[str, Figure]:
    """Squared error over samples."""
    figure, (ax,) = panels(1, 1, width=5.2, height=3.8)
    for i, network in enumerate(distinct(tables["deep"], "network")):
        rows = select(tables["deep"], network=network)
        ax.plot([r["samples"] for r in rows], [r["error"] for r in rows], color=COLORS[i], label=network)
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


def measure_settings(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``targets``, the error over γ, and ``warm_up``, over the rate with and without."""
    rules, gammas, lrs = (list(column) for column in zip(*_TARGETS, strict=True))
    points = f"[{{data.gamma: {gammas}, model.optimizer.lr: {lrs}}}]"
    errors = _unseen_errors(workshop.fit("targets", _SMALL_CNN, *_QUIET, "--ensemble", points))
    targets: list[Row] = [
        {"rule": rule, "gamma": gamma, "lr": lr, "error": error}
        for rule, gamma, lr, error in zip(rules, gammas, lrs, errors, strict=True)
    ]
    workshop.progress("ensembles", 1, 3)
    rows: list[Row] = []
    for k, (name, schedule) in enumerate((("constant", []), ("warm_up", _WARM_UP))):
        points = f"[{{model.optimizer.lr: {list(_WARMED_LRS)}}}]"
        folder = workshop.fit(f"rates_{name}", _SMALL_CNN, *_QUIET, *schedule, "--ensemble", points)
        found = zip(_WARMED_LRS, _unseen_errors(folder), strict=True)
        rows += [{"schedule": name, "lr": lr, "error": error} for lr, error in found]
        workshop.progress("ensembles", 2 + k, 3)
    return Evidence({"targets": targets, "warm_up": rows}, [*_about_targets(targets), *_about_warm_up(rows)])


def _unseen_errors(folder: Path) -> list[float | None]:
    """Σ(y − p)²/Σy² of the last unseen minibatches of each member; None where it diverged."""
    members = load_run(folder).members
    return [
        None if member.state == "diverged" else float(member.columns[_SQUARED_ERROR][1][-1])
        for member in members
    ]


def _about_targets(rows: list[Row]) -> list[Finding]:
    """B8."""
    fixed, scaled = (select(rows, rule=rule) for rule in ("lr fixed", "lr·γ fixed"))
    learned = [row["gamma"] for row in fixed if row["error"] is not None and row["error"] < 0.25]
    shown = ", ".join(_shown(row["error"]) for row in fixed)
    others = ", ".join(f"{_shown(row['error'])} at γ = {row['gamma']:g}" for row in scaled)
    statement = "BatchNorm, three layers, one rate: Σ(y − p)²/Σy² at the end at γ = 0.004, 0.04, 0.4 and 4"
    note = (
        f"with lr·γ fixed it is {others}: larger targets are learned as well once the rate goes with them; "
        "the preference is that of a rate"
    )
    holds = learned == [_CNN_GAMMA]
    return [Finding("B8", statement, "below 0.25 at γ = 0.04 alone", shown, holds, _ONE_RUN, note)]


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


# Least squares: B2


def measure_least_squares(options: Options, workshop: Workshop) -> Evidence:
    """Table ``least_squares``."""
    o, rows = options.least_squares, []
    _check(o)
    for i, share in enumerate(sorted(o.shares)):
        samples, squares = round(share * o.d**2), []
        for draw in range(o.draws):
            squares.append(theory.minimum_norm_error(samples, o.d, o.r, o.seed, draw, o.tolerance))
            workshop.progress("draws", i * o.draws + draw + 1, len(o.shares) * o.draws)
        rows.append(_row(o, samples, np.array(squares)))
    note = "the published 0.5 at d²/2 samples is the square of the ratio, whose root is 0.707"
    return Evidence({"least_squares": rows}, [_about_error(o, row) for row in rows], [note])


def _check(o: LeastSquaresOptions) -> None:
    if not 1 <= o.r <= o.d:
        raise UserError(f"r = {o.r}: allowed are 1 to d = {o.d}")
    if o.draws < 5 or not o.shares:
        raise UserError(f"draws = {o.draws}, shares = {o.shares}: at least 5 and 1 are needed")
    for share in o.shares:
        if not 1 <= round(share * o.d**2) < o.d**2:
            raise UserError(f"shares = {share}: allowed is what makes 1 to d² − 1 samples")


def _row(o: LeastSquaresOptions, samples: int, squares: np.ndarray) -> Row:
    mean, error = mean_and_error(squares)
    return {
        "samples": samples,
        "share": samples / o.d**2,
        "error": float(np.sqrt(mean)),
        "squared_error": float(mean),
        "standard_error_of_square": float(error),
        "expected": theory.expected_error(samples, o.d),
    }


def _about_error(o: LeastSquaresOptions, row: Row) -> Finding:
    share, expected, spread = row["share"], row["expected"], row["standard_error_of_square"]
    statement = (
        f"relative error of minimum-norm least squares from {share:.3g} d² samples (root mean square, "
        f"{o.draws} draws)"
    )
    holds = abs(row["squared_error"] - expected**2) <= error_limit(o.draws) * spread
    found = f"{row['error']:.4g} (square {row['squared_error']:.4g} ± {2 * spread:.2g})"
    interval = f"square ± {2 * spread:.2g} (two standard errors)"
    return Finding("B2", statement, f"√(1 − n/d²) = {expected:.4g}", found, holds, interval)


def draw_least_squares(tables: Tables) -> dict[str, Figure]:
    """Error over the number of measurements, and the closed form."""
    rows = tables["least_squares"]
    figure, (ax,) = panels(1, 1, width=4.8, height=3.8)
    shares = np.linspace(0, 1, 201)
    ax.plot(shares, np.sqrt(1 - shares), color=COLORS[0], label="√(1 − n/d²)")
    # The standard error of a root is that of the square over twice the root.
    spread = [row["standard_error_of_square"] / row["error"] for row in rows]
    ax.errorbar(
        [row["share"] for row in rows], [row["error"] for row in rows], spread,
        fmt="o", color=COLORS[1], markersize=4, capsize=3, label="computed, mean ± 2 standard errors",
    )  # fmt: skip
    finish(ax, "Least squares without a prior on the rank (B2)", "n/d²", "‖M − T‖ / ‖T‖", log="")
    return {"least_squares": figure}


# Online convex optimisation: B10


def measure_convex(options: Options, workshop: Workshop) -> Evidence:
    """Table ``regret``."""
    o = options.convex
    if not o.steps:
        raise UserError("steps is empty: at least one K is needed")
    evidence, rows = Evidence(), []
    for i, steps in enumerate(sorted(o.steps)):
        losses = theory.simulate_stream(o.dimensions, o.distance, steps, o.runs, o.seed)
        bound = theory.regret_bound(o.distance, 1.0, steps)
        mean, error = map(float, mean_and_error(losses))
        rows.append({"steps": steps, "mean": mean, "standard_error": error, "bound": bound})
        statement = f"mean loss of the best of K = {steps} iterates ({o.runs} runs)"
        found, interval = f"{mean:.4g} ± {2 * error:.2g}", f"± {2 * error:.2g} (two standard errors)"
        holds = mean + 2 * error <= bound
        evidence.findings.append(Finding("B10", statement, f"≤ {bound:.4g}", found, holds, interval))
        workshop.progress("runs", i + 1, len(o.steps))
    evidence.tables["regret"] = rows
    return evidence


def draw_convex(tables: Tables) -> dict[str, Figure]:
    """The best iterate's loss over the steps, and its bound."""
    rows = tables["regret"]
    figure, (ax,) = panels(1, 1, width=4.8, height=3.8)
    steps = [r["steps"] for r in rows]
    ax.plot(steps, [r["bound"] for r in rows], color=COLORS[0], label="bound ‖x¹ − x*‖/√K (F1)")
    ax.errorbar(
        steps, [r["mean"] for r in rows], [2 * r["standard_error"] for r in rows],
        fmt="o", color=COLORS[1], markersize=4, capsize=3, label="simulated, mean ± 2 standard errors",
    )  # fmt: skip
    finish(ax, "online SGD on convex losses (B10)", "steps K", "loss of the best iterate")
    return {"regret": figure}


def _trained(identity: str, statement: str, prediction: str, quick: str, full: str, config: str) -> Claim:
    return Claim(
        identity,
        statement,
        f"{_BLOG}, {identity}",
        "trained",
        prediction,
        quick,
        full,
        f"matrix_sensing/{config}",
    )


_SMALL_QUICK = "two-layer linear networks at d = 32, 64, 128 on d²/2 samples, one seed"
_RECOVERY = Experiment(
    "recovery",
    (
        _trained(
            "B1",
            "a two-layer linear network recovers a matrix of rank 2 from half as many samples as entries",
            "near 1 to 6000 samples, 0.13 near 15 000, below 0.006 at the end",
            "d = 256, 32 768 samples",
            "the same",
            "simple.yaml",
        ),
    ),
    measure_recovery,
    draw_recovery,
)
_SMALL_INSTANCES = Experiment(
    "instances",
    (
        _trained(
            "B3",
            "too small a rate learns nothing, too large a rate diverges",
            "a quarter and four times the rate",
            _SMALL_QUICK,
            "the same",
            "simple.yaml",
        ),
        _trained(
            "B4",
            "a small initialisation is needed, and scaling it down is scaling the target up",
            "the error falls as γ grows; equal runs to rounding",
            _SMALL_QUICK,
            "the same",
            "simple.yaml",
        ),
        _trained(
            "B5",
            "it only works for large instances",
            "the error at the end falls with d",
            _SMALL_QUICK,
            "the same",
            "simple.yaml",
        ),
    ),
    measure_instances,
    draw_instances,
)
_DEEP_NETWORKS = Experiment(
    "deep",
    (
        _trained(
            "B6",
            "depth, ReLU, BatchNorm and momentum learn it too",
            "an error below 0.25",
            "three layers, d = 256, 32 768 samples",
            "ten layers, d = 1024, 524 288 samples",
            "cnn.yaml",
        ),
        _trained(
            "B7",
            "depth, ReLU, LayerNorm and Adam learn it too",
            "an error below 0.2",
            "three layers, d = 256, 32 768 samples",
            "ten layers, d = 1024, 524 288 samples",
            "transformer.yaml",
        ),
    ),
    measure_deep,
    draw_deep,
)
_SETTINGS = Experiment(
    "settings",
    (
        _trained(
            "B8",
            "deep normalised networks want smaller targets than the simple setting",
            "at one rate an error below 0.25 at γ = 0.04 alone, where the simple setting learns at 100 (B3)",
            "three layers, d = 256, 32 768 samples, γ = 0.004 to 4, and to 100 at lr·γ fixed",
            "ten layers, d = 1024, 524 288 samples, over data.gamma",
            "cnn.yaml",
        ),
        _trained(
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
_LEAST_SQUARES = Experiment(
    "least_squares",
    (
        Claim(
            "B2",
            "least squares without a prior on the rank misses √(1 − n/d²) of the matrix",
            f"{_BLOG}, B2",
            "simulated",
            "the mean square of ten draws is 1 − n/d², within its error",
            "d = 24, ten draws at four n",
            "d = 64, ten draws at four n",
        ),
    ),
    measure_least_squares,
    draw_least_squares,
)
_CONVEX = Experiment(
    "convex",
    (
        Claim(
            "B10",
            "the best of K iterates on convex Lipschitz losses is within ‖x¹ − x*‖/√K",
            f"{_BLOG}, B10; F1",
            "simulated",
            "no mean above the bound",
            "K = 10 and 100, 100 runs each",
            "K = 10 … 3000, 200 runs each",
        ),
    ),
    measure_convex,
    draw_convex,
)

PAPER = Paper(
    "blog",
    f"{_BLOG}: matrix sensing by deep linear networks",
    (_RECOVERY, _LEAST_SQUARES, _SMALL_INSTANCES, _DEEP_NETWORKS, _SETTINGS, _CONVEX),
    Options,
    {"least_squares.d": 24, "convex.steps": [10, 100], "convex.runs": 100},
)
