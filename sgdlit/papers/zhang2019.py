"""Zhang et al. 2019: what the noisy quadratic model says about the batch size, and runs of it by ``fit``.

G2 and G6 to G11 are exact: the fewest steps to a target risk over the batch size. F5 and F8 compare the mean
risk of trained runs with the exact one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.figures.style import COLORS, MARKERS, binary_ticks, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import distance_in_errors, error_limit, mean_and_error
from sgdlit.papers.claim import EXACT, IN_ERRORS, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.quadratic_runs import QuadraticRun
from sgdlit.runs.reading import Run, load_run, runs_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdlit.theory.first_crossing import Best
    from sgdlit.theory.noisy_quadratic import NoisyQuadratic
    from sgdlit.theory.optimizers import Optimizer
    from sgdlit.theory.schedules import Schedule


@dataclass
class Options:
    """Steps to a target risk over batch size, for five kinds of optimizer, and the bound (G2, G6 to G11).

    Symbols (Zhang et al. 2019, arXiv 1907.04164; Grosse, CSC 2541 lecture 7): L = ½ Σ_i h_i θ_i² in D
    dimensions, curvatures h_i, gradient noise of variance c_i/B, batch size B, learning rate α, momentum β,
    averaging decay μ, preconditioner H^γ. Here h_i = c_i = i^(−exponent) and θ_0 ~ N(0, I). D/(2 · target ·
    B) is the number of steps below which no method can reach the target (in the limit of a start of
    unbounded variance).

    Runs that differ in their seeds only are samples of one mean risk, which is computed from their config,
    whatever the schedule of the rate (F5, F8).

    Args:
        dimensions: D.
        exponent: of the power law.
        target: the risk to reach.
        batch_sizes: B.
        rates: number of learning rates: α_max · 10^(−decades·(1 − j/rates)), 0 <= j < rates, below the
            largest stable one α_max.
        decades: powers of ten that the rates span.
        preconditioners: γ, 0 being plain SGD.
        one_minus_momentum: 1 − β, tuned over for each batch size.
        one_minus_decay: 1 − μ, tuned over for each batch size.
        pieces: of the optimised piecewise-constant schedules.
        runs: compare these runs instead of training some (F5, F8): the folder of a run, or one with
            version_0, version_1, … in it, such as logs/noisy_quadratic_sgd.
    """

    dimensions: int = 10_000
    exponent: float = 1.0
    target: float = 0.01
    batch_sizes: list[float] = field(default_factory=lambda: [4.0**k for k in range(10)])
    rates: int = 100
    decades: float = 9.0
    preconditioners: list[float] = field(default_factory=lambda: [0.0, 0.25, 0.5, 0.75])
    one_minus_momentum: list[float] = field(default_factory=lambda: [0.3, 0.1, 0.03, 0.01, 0.003, 0.001])
    one_minus_decay: list[float] = field(default_factory=lambda: [10.0 ** (-k / 2) for k in range(2, 13)])
    pieces: int = 10
    runs: str | None = None


# Steps to a target: G2, G7 to G11

_PUBLISHED = {4.0: 1.51e6, 2.0**16: 8200.0}  # plain SGD on the standard instance, target 0.01
_PUBLISHED_TOLERANCE, _PUBLISHED_TARGET = 0.02, 0.01
_PLAIN, _MOMENTUM, _AVERAGE, _SCHEDULE = "SGD", "momentum", "EMA", "schedule"
_GRID = "none: exact, at the best of a grid of rates"


def measure_steps(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``steps`` and ``schedules``."""
    if not o.batch_sizes:
        raise UserError("batch_sizes is empty: at least one is needed")
    if o.pieces < 1:
        raise UserError(f"pieces = {o.pieces}: a schedule has at least one")
    model = theory.NoisyQuadratic.power_law(o.dimensions, o.exponent)
    o = replace(o, batch_sizes=sorted(o.batch_sizes))
    families = _families(o)
    if _PLAIN not in families:
        raise UserError(f"preconditioners = {o.preconditioners}: must hold 0, plain SGD, to compare with")
    search = theory.Search(o.batch_sizes, o.target, o.rates, o.decades, o.pieces)
    best, schedules = theory.best_lrs_and_schedules(model, families, _PLAIN, search, workshop.progress)
    evidence = Evidence()
    evidence.tables["steps"] = _step_rows(model, best, schedules, o)
    evidence.tables["schedules"] = _schedule_rows(o.batch_sizes, schedules) or [{"batch_size": None}]
    _judge(evidence, model, best, schedules, o)
    return evidence


def _families(o: Options) -> dict[str, list[Optimizer]]:
    """Optimizers that share a curve, by its name; the costliest first, so that processes end together."""
    families: dict[str, list[Optimizer]] = {
        _MOMENTUM: [theory.HeavyBall(1 - v) for v in o.one_minus_momentum],
        _AVERAGE: [theory.AveragedSGD(1 - v) for v in o.one_minus_decay],
    }
    for gamma in o.preconditioners:
        families[_PLAIN if gamma == 0 else f"SGD, preconditioner γ = {gamma:g}"] = [theory.SGD(gamma)]
    return families


def _step_rows(
    model: NoisyQuadratic,
    best: dict[str, list[Best | None]],
    schedules: list[Schedule | None],
    o: Options,
) -> list[Row]:
    rows = []
    bounds = [model.information_bound(o.target, batch_size) for batch_size in o.batch_sizes]
    for name, found in best.items():
        for batch_size, bound, b in zip(o.batch_sizes, bounds, found, strict=True):
            steps, lr, optimizer = (None, None, None) if b is None else (b.steps, b.lr, b.optimizer)
            rows.append(_step_row(name, batch_size, steps, lr, optimizer, bound))
    for batch_size, bound, schedule in zip(o.batch_sizes, bounds, schedules, strict=True):
        steps = None if schedule is None else schedule.steps
        rows.append(_step_row(_SCHEDULE, batch_size, steps, None, theory.SGD(), bound))
    return rows


def _step_row(
    name: str,
    batch_size: float,
    steps: int | None,
    lr: float | None,
    optimizer: Optimizer | None,
    bound: float,
) -> Row:
    return {
        "curve": name,
        "batch_size": batch_size,
        "steps": steps,
        "lr": lr,
        "momentum": optimizer.momentum if isinstance(optimizer, theory.HeavyBall) else None,
        "decay": optimizer.decay if isinstance(optimizer, theory.AveragedSGD) else None,
        "bound": bound,
    }


def _schedule_rows(batch_sizes: list[float], schedules: list[Schedule | None]) -> list[Row]:
    return [
        {"batch_size": b, "piece": j, "lr": lr, "steps": k}
        for b, schedule in zip(batch_sizes, schedules, strict=True)
        if schedule is not None
        for j, (lr, k) in enumerate(zip(schedule.lrs, schedule.durations, strict=True))
    ]


def _judge(
    evidence: Evidence,
    model: NoisyQuadratic,
    best: dict[str, list[Best | None]],
    schedules: list[Schedule | None],
    o: Options,
) -> None:
    """What the numbers at hand decide; where a target was not reached, a note says so."""
    for name, found in best.items():
        sizes = [size for size, b in zip(o.batch_sizes, found, strict=True) if b is None]
        if sizes:
            evidence.notes.append(f"{name}: risk {o.target:g} is not reached at batch sizes {sizes}")
    plain = [b for b in best[_PLAIN] if b is not None]
    if len(plain) < max(2, len(o.batch_sizes)) or min(b.steps for b in plain) == 0:
        evidence.notes.append(
            "plain SGD does not take steps to the target at every batch size: no claims about speed"
        )
        return
    evidence.findings += _regimes(model, plain, o)
    evidence.findings += _gains(plain, best)
    evidence.findings += _bounds(model, plain, best, schedules, o)


def _regimes(model: NoisyQuadratic, plain: list[Best], o: Options) -> list[Finding]:
    """G2 and G7."""
    work = [b.batch_size * b.steps for b in plain]
    growth = min(after / before for before, after in pairwise(work))
    # A grid of rates leaves each optimum off by a little: a fall within it is none.
    statement = "B·T(B) never falls: its least growth from one B to the next"
    found = [Finding("G2", statement, "≥ 0.95", f"{growth:.3f}", growth >= 0.95, _GRID)]
    small = [b for b in plain if b.lr < 0.1 * model.largest_lr()]
    if len(small) >= 2:
        slope = np.polyfit(np.log([b.batch_size for b in small]), np.log([b.lr for b in small]), 1)[0]
        statement = "best rate as a power of B while it is below a tenth of the largest stable one"
        holds = bool(abs(slope - 1) <= 0.1)
        found.append(Finding("G7", statement, "1 ± 0.1", f"{slope:.3f}", holds, _GRID))
    share = max(b.lr for b in plain) / model.largest_lr()
    statement = "the largest best rate stays below 2/h_max, as a share of it"
    found.append(Finding("G7", statement, "< 1, near it", f"{share:.3f}", bool(0.5 < share < 1), _GRID))
    return found


def _gains(plain: list[Best], best: dict[str, list[Best | None]]) -> list[Finding]:
    """G8 and G9: plain SGD's steps over another's, at the smallest and at the largest batch size."""
    findings = []
    for name, found in best.items():
        first, last = found[0], found[-1]
        if name == _PLAIN or first is None or last is None or 0 in (first.steps, last.steps):
            continue
        small, large = plain[0].steps / first.steps, plain[-1].steps / last.steps
        if name == _MOMENTUM:
            claim, predicted, holds = "G9", "about 1× and above 4×", 0.9 < small < 1.1 and large > 4
        elif name == _AVERAGE:
            claim, predicted, holds = "G9", "above 2× and about 1×", small > 2 and 0.9 < large < 1.1
        else:
            claim, predicted, holds = "G8", "large B gains more", large > small > 1
        statement = f"{name}: gain over plain SGD at the smallest and the largest B"
        findings.append(Finding(claim, statement, predicted, f"{small:.2f}× and {large:.2f}×", holds, _GRID))
    return findings


def _bounds(
    model: NoisyQuadratic,
    plain: list[Best],
    best: dict[str, list[Best | None]],
    schedules: list[Schedule | None],
    o: Options,
) -> list[Finding]:
    """G10 and G11."""
    taken = [(b.batch_size, b.steps) for found in best.values() for b in found if b and b.steps]
    taken += [(b.batch_size, s.steps) for b, s in zip(plain, schedules, strict=True) if s]
    least = min(steps / model.information_bound(o.target, b) for b, steps in taken)
    statement = f"least ratio of steps to D/(2 · target · B) over {len(taken)} tuned runs"
    found = [Finding("G11", statement, "≥ 1", f"{least:.3f}", least >= 1, EXACT)]
    bayes = max(model.bayes_risk(steps, b) for b, steps in taken)
    statement = f"largest Bayes risk after as many steps as the tuned runs took, at a target of {o.target:g}"
    found.append(Finding("G11", statement, f"≤ {o.target:g}", f"{bayes:.5f}", bool(bayes <= o.target), EXACT))
    if schedules[0] is not None:
        b = plain[0]
        bound = model.information_bound(o.target, b.batch_size)
        constant, scheduled = b.steps / bound, schedules[0].steps / bound
        statement = (
            f"steps over the bound at B = {b.batch_size:g}: best schedule of {o.pieces} pieces, constant rate"
        )
        numbers, holds = f"{scheduled:.2f} and {constant:.2f}", scheduled < 2 < constant / 2
        found.append(Finding("G10", statement, "below 2, far above", numbers, holds, _GRID))
    return found


_TITLES = (
    "preconditioners $H^\\gamma$ (G8)",
    "momentum (G9)",
    "iterate averaging, EMA (G9)",
    "learning-rate schedules (G10)",
)


def draw_steps(tables: Tables) -> dict[str, Figure]:
    """The figures by file name."""
    return {"steps_to_target": _draw_steps_to_target(tables["steps"]), "rates": _draw_lrs(tables["steps"])}


def _draw_steps_to_target(rows: Sequence[Row]) -> Figure:
    """Four panels, each with plain SGD, one family, and the information-theoretic bound."""
    figure, axes = panels(2, 2, width=4.8, height=3.9)
    curves, plain = distinct(rows, "curve"), select(rows, curve=_PLAIN)
    groups = [[c for c in curves if "γ" in c], [_MOMENTUM], [_AVERAGE], [_SCHEDULE]]
    labels = {_MOMENTUM: "heavy ball, tuned", _AVERAGE: "EMA, tuned", _SCHEDULE: "SGD, optimised schedule"}
    least = min((row["steps"] for row in rows if row["steps"]), default=None)
    sizes = [row["batch_size"] for row in plain]
    for ax, title, group in zip(axes, _TITLES, groups, strict=True):
        _draw_curve(ax, plain, "SGD, best constant rate", 0)
        for i, curve in enumerate(group):
            _draw_curve(ax, select(rows, curve=curve), labels.get(curve, curve), i + 1)
        ax.plot(sizes, [row["bound"] for row in plain], "k--", lw=1, label="bound D/(2·target·B)")
        finish(ax, title, "batch size B (examples)", "steps to target risk")
        ax.set_ylim(bottom=None if least is None else max(1.0, 0.5 * least))
        binary_ticks(ax, sizes)
    return figure


def _draw_lrs(rows: Sequence[Row]) -> Figure:
    """The best constant rate of SGD over batch size."""
    figure, (ax,) = panels(1, 1, width=4.8, height=3.9)
    plain = [row for row in select(rows, curve="SGD") if row["lr"] is not None]
    if plain:
        sizes, lrs = [r["batch_size"] for r in plain], [r["lr"] for r in plain]
        ax.plot(sizes, lrs, "o", color=COLORS[0], label="best of the grid")
        ax.plot(sizes, [lrs[0] * b / sizes[0] for b in sizes], "--", color="black", lw=1, label="∝ B")
        ax.set_ylim(0.5 * min(lrs), 3 * max(lrs))
    title = "best constant rate of SGD (G7)"
    finish(ax, title, "batch size B (examples)", "learning rate α", legend=bool(plain))
    if plain:
        binary_ticks(ax, sizes)
    return figure


def _draw_curve(ax: Axes, rows: Sequence[Row], label: str, i: int) -> None:
    reached = [row for row in rows if row["steps"]]
    ax.plot(
        [row["batch_size"] for row in reached], [row["steps"] for row in reached],
        marker=MARKERS[i], color=COLORS[i], markersize=4, linewidth=1.2, label=label,
    )  # fmt: skip


# The published numbers: G6


def measure_published(o: Options, workshop: Workshop) -> Evidence:
    """Table ``published``: plain SGD on the standard instance, whatever the options."""
    sizes = list(_PUBLISHED)
    model = theory.NoisyQuadratic.power_law()
    best = theory.best_constant_lr(model, [theory.SGD()], sizes, _PUBLISHED_TARGET)
    evidence = Evidence({"published": []})
    for (size, published), b in zip(_PUBLISHED.items(), best, strict=True):
        steps, lr = (None, None) if b is None else (b.steps, b.lr)
        holds = steps is not None and abs(steps / published - 1) <= _PUBLISHED_TOLERANCE
        statement = f"steps of plain SGD to risk {_PUBLISHED_TARGET:g} at B = {size:g}"
        shown = "not reached" if steps is None else f"{steps:,}"
        evidence.findings.append(Finding("G6", statement, f"about {published:,.0f}", shown, holds, _GRID))
        evidence.tables["published"].append(
            {"batch_size": size, "published": published, "steps": steps, "lr": lr}
        )
    return evidence


def draw_published(tables: Tables) -> dict[str, Figure]:
    """Steps over batch size, published and found."""
    rows = tables["published"]
    figure, (ax,) = panels(1, 1)
    for i, name in enumerate(("published", "steps")):
        ax.plot(
            [row["batch_size"] for row in rows], [row[name] for row in rows], MARKERS[i], color=COLORS[i],
            fillstyle="none", markersize=6 + 3 * i, label=("published", "found")[i],
        )  # fmt: skip
    finish(ax, "steps of plain SGD (G6)", "batch size B (examples)", "steps to risk 0.01")
    return {"published": figure}


# Runs of the model through ``fit``: F5 and F8

_LINE_POINTS = 400
_RISK = "test/loss"

_SMALL = [
    "--model.network.d", "20", "--data.d", "20", "--data.steps", "60", "--trainer.val_check_interval", "6",
    "--trainer.logger", "false", "--trainer.enable_progress_bar", "false",
]  # fmt: skip
_WITH_MOMENTUM = ["--model.optimizer.momentum", "0.8", "--data.batch_size", "16"]
_WITH_DROP = [
    "--model.scheduler", "torch.optim.lr_scheduler.MultiStepLR", "--model.scheduler.milestones", "[30]",
    "--model.scheduler.gamma", "0.1", "--data.batch_size", "1",
]  # fmt: skip

Risks = dict[int, float]
Member = tuple[str, Run, QuadraticRun]
"""Name of a run, the run, and its config."""


def measure_runs(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``risk``, ``theory`` and ``runs``."""
    given = {run.folder.name: run for run in runs_in(o.runs)} if o.runs else _train(workshop)
    evidence = Evidence()
    settings: dict[str, list[Member]] = {}
    for i, (name, run) in enumerate(given.items()):
        described = QuadraticRun(run.config)
        settings.setdefault(described.setting, []).append((name, run, described))
        workshop.progress("configs", i + 1, len(given))
    for name in ("risk", "theory", "runs"):
        evidence.tables[name] = []
    for k, members in enumerate(settings.values()):
        label = members[0][2].label
        label += f" [{k}]" if any(label == row["curve"] for row in evidence.tables["theory"]) else ""
        _add_setting(evidence, label, members)
        workshop.progress("settings", k + 1, len(settings))
    if not evidence.tables["risk"]:
        raise UserError(f"no finished runs to compare; {'; '.join(evidence.notes)}")
    return evidence


def _train(workshop: Workshop) -> dict[str, Run]:
    """Runs with momentum, and with a drop of the rate, that differ in their seeds."""
    arguments = {"momentum": _WITH_MOMENTUM, "drop": _WITH_DROP}
    common, count = (_SMALL, 14) if workshop.quick else ([], 40)
    found: dict[str, Run] = {}
    for name, own in arguments.items():
        for seed in range(count):
            one = [*common, *own, "--seed_everything", str(seed)]
            run = f"{name}_{seed}"
            found[run] = load_run(workshop.fit(run, "noisy_quadratic/sgd.yaml", *one))
            workshop.progress("runs", len(found), count * len(arguments))
    return found


def _add_setting(evidence: Evidence, label: str, members: list[Member]) -> None:
    """Rows and a claim of the runs that differ in their seeds only."""
    runs = _finished(evidence, label, members)
    steps = sorted(set.intersection(*map(set, runs.values()))) if runs else []
    if not steps:
        return
    exact = members[0][2].exact_risk(steps[-1])
    measured = np.array([[runs[name][step] for name in runs] for step in steps])
    evidence.tables["runs"] += [
        {"curve": label, "run": name, "step": step, "risk": runs[name][step]}
        for name in runs
        for step in steps
    ]
    line = np.unique(np.linspace(0, steps[-1], _LINE_POINTS).astype(int))
    evidence.tables["theory"] += [{"curve": label, "step": int(k), "theory": float(exact[k])} for k in line]
    mean, error = mean_and_error(measured) if len(runs) > 1 else (measured[:, 0], None)
    evidence.tables["risk"] += _risk_rows(label, steps, exact[steps], mean, error)
    if error is None:
        evidence.notes.append(f"{label}: one run, so no mean to compare")
        return
    worst, limit = distance_in_errors(mean, error, exact[steps]), error_limit(len(runs))
    statement = (
        f"{label}: largest distance of the mean risk of {len(runs)} runs from the exact one, over "
        f"{len(steps)} steps, in standard errors"
    )
    identity = "F8" if members[0][2]["model.optimizer.momentum"] else "F5"
    evidence.findings.append(
        Finding(identity, statement, f"< {limit:.2f}", f"{worst:.2f}", worst < limit, IN_ERRORS)
    )


def _risk_rows(
    label: str, steps: list[int], exact: np.ndarray, mean: np.ndarray, error: np.ndarray | None
) -> list[Row]:
    errors = [None] * len(steps) if error is None else error.tolist()
    return [
        {"curve": label, "step": step, "theory": t, "measured": m, "standard_error": e}
        for step, t, m, e in zip(steps, exact.tolist(), mean.tolist(), errors, strict=True)
    ]


def _finished(evidence: Evidence, label: str, members: list[Member]) -> dict[str, Risks]:
    """The risks of finished runs with seeds of their own, by folder; what is left out is noted.

    A setting of which a run diverged is left out: the mean of the others is not that of all.
    """
    states = {name: run.status for name, run, _ in members}
    diverged = [f"{name} at step {s['step']}" for name, s in states.items() if s["state"] == "diverged"]
    if diverged:
        evidence.notes.append(f"{label}: left out, since {', '.join(diverged)} diverged")
        return {}
    found: dict[str, Risks] = {}
    seen: dict[str, set[int]] = {}
    for name, run, described in members:
        repeated = [kind for kind, seed in described.seeds.items() if seed in seen.setdefault(kind, set())]
        if states[name]["state"] != "finished":
            evidence.notes.append(f"{label}: {name} left out, it is {states[name]['state']}")
        elif repeated:
            evidence.notes.append(f"{label}: {name} left out, its {repeated[0]} is that of another run")
        else:
            found[name] = dict(zip(*(part.tolist() for part in run.column(_RISK)), strict=True))
            for kind, seed in described.seeds.items():
                seen[kind].add(seed)
    return found


def draw_runs(tables: Tables) -> dict[str, Figure]:
    """The risk of each run, their mean, and the exact one."""
    figure, (ax,) = panels(1, 1, width=6.4, height=4.4)
    for i, curve in enumerate(distinct(tables["theory"], "curve")):
        color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
        runs = select(tables["runs"], curve=curve)
        names = distinct(runs, "run")
        for name in names:
            own = select(runs, run=name)
            ax.plot(
                [r["step"] for r in own], [r["risk"] for r in own], color=color, alpha=0.12, linewidth=0.6
            )
        line = select(tables["theory"], curve=curve)
        ax.plot(
            [r["step"] for r in line], [r["theory"] for r in line], color=color, label=f"{curve}: exact mean"
        )
        rows = select(tables["risk"], curve=curve)
        ax.errorbar(
            [r["step"] for r in rows], [r["measured"] for r in rows],
            [2 * (r["standard_error"] or 0.0) for r in rows], fmt=marker, color=color, markersize=3.5,
            capsize=2, linewidth=1,
            label="one run" if len(names) == 1 else f"mean of {len(names)} runs ± 2 standard errors",
        )  # fmt: skip
    finish(
        ax, "noisy quadratic model: runs (faint), their mean, and theory", "step", "risk ½ Σ h θ²", log="y"
    )
    return {"risk": figure}


# The paper

_ZHANG = "Zhang et al. 2019, arXiv 1907.04164"
_LECTURE = "Grosse, CSC 2541 lecture 7"
_QUICK_STEPS = "300 dimensions, target 0.02, five batch sizes up to 2¹⁶"
_FULL_STEPS = "10⁴ dimensions, target 0.01, ten batch sizes up to 4⁹"


def _steps_claim(identity: str, statement: str, source: str, prediction: str) -> Claim:
    return Claim(identity, statement, source, "exact", prediction, _QUICK_STEPS, _FULL_STEPS)


def _runs_claim(identity: str, statement: str, source: str, rest: str) -> Claim:
    prediction = "no mean over seeds lies farther from the exact risk than chance allows"
    quick, full = f"14 runs of 60 steps in 20 dimensions {rest}", f"40 runs of the config {rest}"
    return Claim(identity, statement, source, "trained", prediction, quick, full, "noisy_quadratic/sgd.yaml")


_STEPS = Experiment(
    "steps",
    (
        _steps_claim("G2", "B·T(B) never falls with the batch size", _LECTURE, "growth of at least 0.95"),
        _steps_claim(
            "G7",
            "the best rate is proportional to B, and then capped by the curvature",
            f"{_ZHANG}; {_LECTURE}",
            "a power of 1 ± 0.1, below 2/h_max",
        ),
        _steps_claim(
            "G8", "preconditioning helps large batches more than small ones", _ZHANG, "large B gains more"
        ),
        _steps_claim(
            "G9",
            "momentum helps large batches only, averaging small ones only",
            _ZHANG,
            "momentum 1× and above 4×, averaging above 2× and 1×",
        ),
        _steps_claim(
            "G10",
            "a schedule comes near the bound at small batches, a constant rate does not",
            f"{_ZHANG}; {_LECTURE}",
            "below 2 times the bound, and at least 4 times",
        ),
        _steps_claim(
            "G11", "no method takes fewer steps than D/(2 · target · B)", _LECTURE, "no ratio below 1"
        ),
    ),
    measure_steps,
    draw_steps,
)
_PUBLISHED_STEPS = Experiment(
    "published",
    (
        Claim(
            "G6",
            "plain SGD takes 1.51 million steps at B = 4 and 8200 at B = 2¹⁶",
            _ZHANG,
            "exact",
            "within 2 %",
            "10⁴ dimensions, target 0.01, the best of 100 rates",
            "the same",
        ),
    ),
    measure_published,
    draw_published,
)
_RUNS = Experiment(
    "runs",
    (
        _runs_claim(
            "F5", "the mean risk of SGD at any rates is the exact one", f"{_LECTURE}, F5", "with a rate drop"
        ),
        _runs_claim(
            "F8", "the mean risk of heavy ball is the exact one", f"{_ZHANG}, F8", "with momentum 0.8"
        ),
    ),
    measure_runs,
    draw_runs,
)

PAPER = Paper(
    "zhang2019",
    "Zhang et al. 2019, Which algorithmic choices matter at which batch sizes?, arXiv 1907.04164",
    (_STEPS, _PUBLISHED_STEPS, _RUNS),
    Options,
    {"dimensions": 300, "target": 0.02, "batch_sizes": [1.0, 16.0, 256.0, 4096.0, 65536.0]},
)
