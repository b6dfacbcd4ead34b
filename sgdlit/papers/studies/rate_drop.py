"""The study of a drop of the learning rate (G3): in the noisy quadratic model, and in runs of a network."""

from pathlib import Path

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import distance_in_errors, error_limit, mean_and_error
from sgdlit.papers.claim import Claim
from sgdlit.papers.schedules_of_runs import learning_rates
from sgdlit.papers.studies.options import RateDropOptions
from sgdlit.papers.studies.study import Progress, Row, Study, silent
from sgdlit.runs.reading import runs_in
from sgdlit.theory.noisy_quadratic import NoisyQuadratic, Run
from sgdlit.theory.optimizers import SGD
from sgdlit.theory.recursion import risk_of_rates
from sgdlit.theory.simulation import simulate
from sgdlit.theory.two_roots import Array

_SUDDEN = 3  # times as much at the drop as in as many steps before


def run(options: RateDropOptions, progress: Progress = silent) -> Study:
    """All of it; tables ``model`` and, with ``runs``, ``network`` and ``network_runs``."""
    o = options
    if o.steps < 20 or o.simulations < 2 or not o.factor > 1:
        raise UserError(
            f"steps = {o.steps}, simulations = {o.simulations}, factor = {o.factor}: at least 20 and 2, and "
            "above 1, are needed"
        )
    study = Study()
    if o.runs is not None:
        _add_network(study, o)
    _add_model(study, o, progress)
    return study


def _add_model(study: Study, o: RateDropOptions, progress: Progress) -> None:
    model, half = NoisyQuadratic.power_law(o.dimensions, o.exponent), o.steps // 2
    floors = [Run(model, SGD(), lr).floor(o.batch_size) for lr in (o.lr, o.lr / o.factor)]
    lrs = [o.lr] * half + [o.lr / o.factor] * (o.steps - half)
    record = np.concatenate([np.linspace(0, o.steps, 41), half + np.geomspace(1, half / 10, 5)])
    record = np.unique(record.astype(int))
    exact = risk_of_rates(model, lrs, o.batch_size)
    simulated = simulate(model, SGD(), lrs, o.batch_size, o.simulations, o.seed, record.tolist(), progress)
    mean, error = mean_and_error(simulated)
    study.tables["model"] = [
        {"step": k, "lr": lrs[min(k, o.steps - 1)], "floor": floors[k >= half], "theory": t, "measured": m,
         "standard_error": e}
        for k, t, m, e in zip(*(x.tolist() for x in (record, exact[record], mean, error)), strict=True)
    ]  # fmt: skip
    study.claims.append(_sudden_fall("noisy quadratic model", np.arange(o.steps + 1), exact, half))
    worst, limit = distance_in_errors(mean, error, exact[record]), error_limit(o.simulations)
    statement = f"largest distance of {o.simulations} simulated runs from theory, in standard errors"
    study.claims.append(Claim("G3", statement, f"< {limit:.2f}", f"{worst:.2f}", worst < limit))


def _add_network(study: Study, o: RateDropOptions) -> None:
    curves, rates = {}, None
    for trained in runs_in(o.runs):
        name = trained.folder.name
        if trained.state != "finished":
            study.notes.append(f"{name} left out, it is {trained.state}")
            continue
        own = learning_rates(trained.config, trained.status["step"])
        if rates is not None and own != rates:
            raise UserError(f"runs = {o.runs}: {name} has other learning rates than the runs before it")
        rates = own
        curves[name] = dict(zip(*(part.tolist() for part in trained.column(o.metric)), strict=True))
    steps = sorted(set.intersection(*map(set, curves.values()))) if curves else []
    falls = [t for t in range(1, len(rates or [])) if rates[t] < rates[t - 1]]
    if not steps or len(falls) != 1:
        raise UserError(
            f"runs = {o.runs}: {len(steps)} steps with {o.metric} in {len(curves)} finished runs, "
            f"{len(falls)} drops of the rate; needed: some, and one drop (as MultiStepLR makes it)"
        )
    values = np.array([[curve[step] for step in steps] for curve in curves.values()])
    study.tables["network_runs"] = [
        {"run": name, "step": step, "value": curve[step]} for name, curve in curves.items() for step in steps
    ]
    study.tables["network"] = _network_rows(o.metric, steps, rates, values)
    name = f"{o.metric} of {len(curves)} runs of {Path(o.runs).name}"
    study.claims.append(_sudden_fall(name, np.array(steps), values.mean(0), falls[0]))


def _network_rows(metric: str, steps: list[int], rates: list[float], values: Array) -> list[Row]:
    mean, error = mean_and_error(values.T) if len(values) > 1 else (values[0], [None] * len(steps))
    return [
        {"metric": metric, "step": step, "lr": rates[min(step, len(rates) - 1)], "mean": float(m),
         "standard_error": None if e is None else float(e)}
        for step, m, e in zip(steps, mean, error, strict=True)
    ]  # fmt: skip


def _sudden_fall(name: str, steps: Array, values: Array, drop: int) -> Claim:
    """By what share the loss falls in a tenth of the run: as its trend was before the drop, and at it.

    The trend is that of a straight line through log loss from half-way to the drop on; at the drop, it is the
    geometric mean of the tenth after it over that of the tenth before.
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
    return Claim("G3", statement, predicted, f"{trend:.1%} and {fall:.1%}", bool(holds))
