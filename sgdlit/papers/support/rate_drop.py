"""A drop of the learning rate: in the noisy quadratic model, whose floors are known, and in runs (G3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.config.words import metric_in_words
from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import distance_in_errors, error_limit, mean_and_error
from sgdlit.papers.claim import EXACT, IN_ERRORS, Finding
from sgdlit.papers.paper import Evidence, Row, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import FIRST, SPLIT, fresh_seeds, in_words
from sgdlit.papers.support.lrs_of_runs import learning_rates
from sgdlit.runs.reading import Run, load_run, runs_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray


@dataclass
class DropOptions:
    """G3: the learning rate falls by a factor, and the risk to a lower floor, which lr/B sets (F6).

    Args:
        runs: compare these runs of a network with one drop of the rate instead of training some: the folder
            of one, or one with version_0, version_1, … in it, such as logs/fashion_rate_drop.
        metric: what is looked at in these runs.
        dimensions: D.
        exponent: of the power law.
        batch_size: B.
        lr: α before the drop.
        factor: by which it is divided half-way.
        steps: of the model's run.
        simulations: independent simulated runs of it.
        seed: of them.
    """

    runs: str | None = None
    metric: str = "val/loss"
    dimensions: int = 50
    exponent: float = 1.0
    batch_size: float = 1.0
    lr: float = 0.5
    factor: float = 10.0
    steps: int = 2000
    simulations: int = 100
    seed: int = FIRST


_RUNS = {True: 2, False: 3}  # at quick scale, or not
_SUDDEN = 3  # times as much at the drop as in as many steps before
_SMALL = {
    "model.network.widths": "[784,32,10]", "data.batch_size": "2", "data.val_size": "2000",
    "model.scheduler.milestones": "[1000]", "trainer.max_steps": "1500", "trainer.val_check_interval": "50",
    "trainer.limit_val_batches": "2", "trainer.accelerator": "cpu", "trainer.logger": "false",
    "trainer.enable_progress_bar": "false",
}  # fmt: skip


def measure_drop(o: DropOptions, workshop: Workshop) -> Evidence:
    """Tables ``model`` and, where there are runs, ``network`` and ``network_runs``."""
    if o.steps < 20 or o.simulations < 2 or not o.factor > 1:
        raise UserError(
            f"steps = {o.steps}, simulations = {o.simulations}, factor = {o.factor}: at least 20 and 2, and "
            "above 1, are needed"
        )
    evidence = Evidence(seeds=f"{o.seed} in the model")
    if o.runs is not None:
        _add_network(evidence, {r.folder.name: r for r in runs_in(o.runs)}, Path(o.runs).name, o.metric)
    elif workshop.data is not None:
        _add_network(evidence, _train(workshop, workshop.data), "fashion_rate_drop", o.metric)
        evidence.seeds += f", {in_words(_RUNS[workshop.quick])} in the network"
    else:
        evidence.notes.append("the network is left out: no data folder (--data or SGDLIT_DATA)")
    _add_model(evidence, o, workshop)
    return evidence


def _train(workshop: Workshop, sets: Path) -> dict[str, Run]:
    data = sets / "fashion-mnist" if (sets / "fashion-mnist").is_dir() else sets
    given = _SMALL if workshop.quick else {}
    common = [part for key, value in given.items() for part in (f"--{key}", value)]
    runs = {}
    for seed in fresh_seeds(_RUNS[workshop.quick]):
        arguments = [*common, *SPLIT, "--data.root", str(data), "--seed_everything", str(seed)]
        folder = workshop.fit(f"drop_{seed}", "rate_drop/fashion_mlp.yaml", *arguments)
        runs[f"drop_{seed}"] = load_run(folder)
    return runs


def _add_model(evidence: Evidence, o: DropOptions, workshop: Workshop) -> None:
    model, half, sgd = theory.NoisyQuadratic.power_law(o.dimensions, o.exponent), o.steps // 2, theory.SGD()
    floors = [theory.ExactRisk(model, sgd, lr).floor(o.batch_size) for lr in (o.lr, o.lr / o.factor)]
    lrs = [o.lr] * half + [o.lr / o.factor] * (o.steps - half)
    record = np.concatenate([np.linspace(0, o.steps, 41), half + np.geomspace(1, half / 10, 5)])
    record = np.unique(record.astype(int))
    exact = theory.risk_of_lrs(model, lrs, o.batch_size)
    simulated = theory.simulate(
        model, sgd, lrs, o.batch_size, o.simulations, o.seed, record.tolist(), workshop.progress
    )
    mean, error = mean_and_error(simulated)
    evidence.tables["model"] = [
        {"step": k, "lr": lrs[min(k, o.steps - 1)], "floor": floors[k >= half], "theory": t, "measured": m,
         "standard_error": e}
        for k, t, m, e in zip(*(x.tolist() for x in (record, exact[record], mean, error)), strict=True)
    ]  # fmt: skip
    steps = np.arange(o.steps + 1)
    evidence.findings.append(sudden_fall("noisy quadratic model", steps, exact, half, EXACT))
    worst, limit = distance_in_errors(mean, error, exact[record]), error_limit(o.simulations)
    statement = f"largest distance of {o.simulations} simulated runs from theory, in standard errors"
    evidence.findings.append(
        Finding("G3", statement, f"< {limit:.2f}", f"{worst:.2f}", worst < limit, IN_ERRORS)
    )


def _add_network(evidence: Evidence, runs: dict[str, Run], where: str, metric: str) -> None:
    lrs: list[float] = []
    curves: dict[str, dict[int, float]] = {}
    for name, run in runs.items():
        if run.state != "finished":
            evidence.notes.append(f"{name} left out, it is {run.state}")
            continue
        own = learning_rates(run.config, run.status["step"])
        if curves and own != lrs:
            raise UserError(f"runs = {where}: {name} has other learning rates than the runs before it")
        lrs, curves[name] = own, dict(zip(*(part.tolist() for part in run.column(metric)), strict=True))
    steps = sorted(set.intersection(*map(set, curves.values()))) if curves else []
    falls = [t for t in range(1, len(lrs)) if lrs[t] < lrs[t - 1]]
    if not steps or len(falls) != 1:
        raise UserError(
            f"runs = {where}: {len(steps)} steps with {metric} in {len(curves)} finished runs, "
            f"{len(falls)} drops of the rate; needed: some, and one drop (as MultiStepLR makes it)"
        )
    values = np.array([[curve[step] for step in steps] for curve in curves.values()])
    evidence.tables["network_runs"] = [
        {"run": name, "step": step, "value": curve[step]} for name, curve in curves.items() for step in steps
    ]
    evidence.tables["network"] = _network_rows(metric, steps, lrs, values)
    name = f"{metric} of {len(curves)} runs of {where}"
    interval = f"none: shares of the mean of {len(curves)} runs"
    evidence.findings.append(sudden_fall(name, np.array(steps), values.mean(0), falls[0], interval))


def _network_rows(metric: str, steps: list[int], lrs: list[float], values: Array) -> list[Row]:
    mean, error = mean_and_error(values.T) if len(values) > 1 else (values[0], [None] * len(steps))
    return [
        {"metric": metric, "step": step, "lr": lrs[min(step, len(lrs) - 1)], "mean": float(m),
         "standard_error": None if e is None else float(e)}
        for step, m, e in zip(steps, mean, error, strict=True)
    ]  # fmt: skip


def sudden_fall(name: str, steps: Array, values: Array, drop: int, interval: str) -> Finding:
    """By what share the loss falls in a tenth of the run: as its trend was before the drop, and at it.

    The trend is that of a straight line through log loss from half-way to the drop on; at the drop, it is the
    geometric mean of the tenth after it over that of the tenth before.

    Raises:
        UserError: too few values for that.
    """
    tenth, logs = steps[-1] / 10, np.log(values)
    plateau, before = (steps > drop / 2) & (steps <= drop), (steps > drop - tenth) & (steps <= drop)
    after = (steps > drop) & (steps <= drop + tenth)
    if plateau.sum() < 3 or not (before.any() and after.any()):
        raise UserError(
            f"{name}: {plateau.sum()} values between steps {drop / 2:g} and {drop}, {after.sum()} up to "
            f"{drop + tenth:g}: too few to see a trend and a drop"
        )
    trend = 1 - np.exp(np.polyfit(steps[plateau], logs[plateau], 1)[0] * tenth)
    fall = 1 - np.exp(logs[after].mean() - logs[before].mean())
    statement = (
        f"{name}: share by which it falls in a tenth of the run, by the trend before the drop, and at it"
    )
    predicted = f"at it above 10 % and {_SUDDEN}× the trend"
    holds = fall > 0.1 and fall > _SUDDEN * trend
    return Finding("G3", statement, predicted, f"{trend:.1%} and {fall:.1%}", bool(holds), interval)


def draw_drop(tables: Tables) -> dict[str, Figure]:
    """The noisy quadratic model and, where there are runs, those of a network."""
    network = "network" in tables
    figure, axes = panels(1, 2 if network else 1, width=5.0, height=3.9)
    _draw_model(axes[0], tables["model"])
    if network:
        _draw_network(axes[1], tables["network"], tables["network_runs"])
    return {"rate_drop": figure}


def _draw_model(ax: Axes, rows: Sequence[Row]) -> None:
    steps, floors = [r["step"] for r in rows], [r["floor"] for r in rows]
    ax.plot(steps, [r["theory"] for r in rows], color=COLORS[0], label="theory, exact")
    ax.step(
        steps, floors, color=COLORS[6], linestyle=":", linewidth=1, where="post",
        label="floor at this rate (F6)",
    )  # fmt: skip
    _draw_points(ax, steps, rows, "measured", "simulated")
    finish(ax, f"noisy quadratic model, {_lrs_in_words(rows)} (G3)", "step", "risk", log="y")


def _draw_network(ax: Axes, rows: Sequence[Row], runs: Sequence[Row]) -> None:
    names, steps = distinct(runs, "run"), [r["step"] for r in rows]
    for name in names if len(names) > 1 else []:
        own = select(runs, run=name)
        x, y = [r["step"] for r in own], [r["value"] for r in own]
        ax.plot(x, y, color=COLORS[1], alpha=0.5, linewidth=0.7)
    _draw_points(ax, steps, rows, "mean", f"{len(names)} runs" if len(names) > 1 else "one run")
    finish(ax, f"network, {_lrs_in_words(rows)} (G3)", "step", metric_in_words(rows[0]["metric"]), log="y")


def _draw_points(ax: Axes, steps: Sequence[int], rows: Sequence[Row], column: str, what: str) -> None:
    spread = [2 * (r["standard_error"] or 0.0) for r in rows]
    label = f"{what}, mean ± 2 standard errors" if any(spread) else what
    ax.errorbar(
        steps, [r[column] for r in rows], spread,
        fmt="o", color=COLORS[1], markersize=3, capsize=2, lw=1, label=label,
    )  # fmt: skip


def _lrs_in_words(rows: Sequence[Row]) -> str:
    return f"rate {rows[0]['lr']:g}, then {rows[-1]['lr']:g}"
