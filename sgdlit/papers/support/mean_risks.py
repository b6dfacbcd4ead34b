"""Runs of the noisy quadratic model through ``fit``: their mean risk beside the exact one, F5 and F8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import distance_in_errors, error_limit, mean_and_error
from sgdlit.papers.claim import IN_ERRORS, Finding
from sgdlit.papers.paper import Evidence, Row, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import fresh_seeds, in_words
from sgdlit.papers.support.quadratic_runs import QuadraticRun
from sgdlit.runs.reading import Run, load_run, runs_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


def measure_runs(folder: str | None, workshop: Workshop) -> Evidence:
    """Tables ``risk``, ``theory`` and ``runs``, of the runs in ``folder``, or of some that are trained."""
    count = 14 if workshop.quick else 40
    given = {run.folder.name: run for run in runs_in(folder)} if folder else _train(workshop, count)
    evidence = Evidence(seeds="those of the runs" if folder else in_words(count))
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


def _train(workshop: Workshop, count: int) -> dict[str, Run]:
    """So many runs with momentum, and with a drop of the rate, that differ in their seeds."""
    arguments = {"momentum": _WITH_MOMENTUM, "drop": _WITH_DROP}
    common = _SMALL if workshop.quick else []
    found: dict[str, Run] = {}
    for name, own in arguments.items():
        for seed in fresh_seeds(count):
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
