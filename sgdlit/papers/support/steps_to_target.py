"""Steps to a target risk over the batch size, exact in the noisy quadratic model: G2, G7 to G11."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.figures.style import COLORS, MARKERS, binary_ticks, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import EXACT, Finding
from sgdlit.papers.paper import Evidence, Row, Tables, Workshop

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


_PLAIN, _MOMENTUM, _AVERAGE, _SCHEDULE = "SGD", "momentum", "EMA", "schedule"
BEST_OF_GRID = "none: exact, at the best of a grid of rates"


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
    found = [Finding("G2", statement, "≥ 0.95", f"{growth:.3f}", growth >= 0.95, BEST_OF_GRID)]
    small = [b for b in plain if b.lr < 0.1 * model.largest_lr()]
    if len(small) >= 2:
        slope = np.polyfit(np.log([b.batch_size for b in small]), np.log([b.lr for b in small]), 1)[0]
        statement = "best rate as a power of B while it is below a tenth of the largest stable one"
        holds = bool(abs(slope - 1) <= 0.1)
        found.append(Finding("G7", statement, "1 ± 0.1", f"{slope:.3f}", holds, BEST_OF_GRID))
    share = max(b.lr for b in plain) / model.largest_lr()
    statement = "the largest best rate stays below 2/h_max, as a share of it"
    found.append(
        Finding("G7", statement, "< 1, near it", f"{share:.3f}", bool(0.5 < share < 1), BEST_OF_GRID)
    )
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
        findings.append(
            Finding(claim, statement, predicted, f"{small:.2f}× and {large:.2f}×", holds, BEST_OF_GRID)
        )
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
        found.append(Finding("G10", statement, "below 2, far above", numbers, holds, BEST_OF_GRID))
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
