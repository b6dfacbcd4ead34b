"""The study of runs of ``fit`` on the noisy quadratic model: their risks, beside the exact mean."""

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import distance_in_errors, error_limit, mean_and_error
from sgdlit.papers.claim import Claim
from sgdlit.papers.quadratic_runs import QuadraticRun
from sgdlit.papers.studies.options import NoisyQuadraticRunsOptions
from sgdlit.papers.studies.study import Progress, Row, Study, silent
from sgdlit.runs.reading import Run, runs_in

_LINE_POINTS = 400
_RISK = "test/loss"

Risks = dict[int, float]


def run(options: NoisyQuadraticRunsOptions, progress: Progress = silent) -> Study:
    """All of it; tables ``risk``, ``theory`` and ``runs``."""
    study, settings = Study(), {}
    found = runs_in(options.runs)
    for i, trained in enumerate(found):
        described = QuadraticRun(trained.config)
        settings.setdefault(described.setting, []).append((trained, described))
        progress("configs", i + 1, len(found))
    for name in ("risk", "theory", "runs"):
        study.tables[name] = []
    for k, members in enumerate(settings.values()):
        label = members[0][1].label
        label += f" [{k}]" if any(label == row["curve"] for row in study.tables["theory"]) else ""
        _add_setting(study, label, members)
        progress("settings", k + 1, len(settings))
    if not study.tables["risk"]:
        raise UserError(f"runs = {options.runs}: no finished runs to compare; {'; '.join(study.notes)}")
    return study


def _add_setting(study: Study, label: str, members: list[tuple[Run, QuadraticRun]]) -> None:
    """Rows and a claim of the runs that differ in their seeds only."""
    runs = _finished(study, label, members)
    steps = sorted(set.intersection(*map(set, runs.values()))) if runs else []
    if not steps:
        return
    exact = members[0][1].exact_risk(steps[-1])
    measured = np.array([[runs[name][step] for name in runs] for step in steps])
    study.tables["runs"] += [
        {"curve": label, "run": name, "step": step, "risk": runs[name][step]}
        for name in runs
        for step in steps
    ]
    line = np.unique(np.linspace(0, steps[-1], _LINE_POINTS).astype(int))
    study.tables["theory"] += [{"curve": label, "step": int(k), "theory": float(exact[k])} for k in line]
    mean, error = mean_and_error(measured) if len(runs) > 1 else (measured[:, 0], None)
    study.tables["risk"] += _risk_rows(label, steps, exact[steps], mean, error)
    if error is None:
        study.notes.append(f"{label}: one run, so no mean to compare")
        return
    worst, limit = distance_in_errors(mean, error, exact[steps]), error_limit(len(runs))
    statement = (
        f"{label}: largest distance of the mean risk of {len(runs)} runs from the exact one, over "
        f"{len(steps)} steps, in standard errors"
    )
    identity = "F8" if members[0][1]["model.optimizer.momentum"] else "F5"
    study.claims.append(Claim(identity, statement, f"< {limit:.2f}", f"{worst:.2f}", worst < limit))


def _risk_rows(label: str, steps: list[int], exact, mean, error) -> list[Row]:
    errors = [None] * len(steps) if error is None else error.tolist()
    return [
        {"curve": label, "step": step, "theory": t, "measured": m, "standard_error": e}
        for step, t, m, e in zip(steps, exact.tolist(), mean.tolist(), errors, strict=True)
    ]


def _finished(study: Study, label: str, members: list[tuple[Run, QuadraticRun]]) -> dict[str, Risks]:
    """The risks of finished runs with seeds of their own, by folder; what is left out is noted.

    A setting of which a run diverged is left out: the mean of the others is not that of all.
    """
    diverged = [
        f"{trained.folder.name} at step {trained.status['step']}"
        for trained, _ in members
        if trained.state == "diverged"
    ]
    if diverged:
        study.notes.append(f"{label}: left out, since {', '.join(diverged)} diverged")
        return {}
    found, seen = {}, {}
    for trained, described in members:
        name = trained.folder.name
        repeated = [name for name, seed in described.seeds.items() if seed in seen.setdefault(name, set())]
        if trained.state != "finished":
            study.notes.append(f"{label}: {name} left out, it is {trained.state}")
        elif repeated:
            study.notes.append(f"{label}: {name} left out, its {repeated[0]} is that of another run")
        else:
            found[name] = dict(zip(*(part.tolist() for part in trained.column(_RISK)), strict=True))
            for purpose, seed in described.seeds.items():
                seen[purpose].add(seed)
    return found
