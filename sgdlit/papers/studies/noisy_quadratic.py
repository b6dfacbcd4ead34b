"""The study of the noisy quadratic model: steps to target over batch size (G2, G6–G11)."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim
from sgdlit.papers.studies.options import NoisyQuadraticOptions
from sgdlit.papers.studies.search import search
from sgdlit.papers.studies.study import Progress, Row, Study, silent
from sgdlit.theory.first_crossing import Best
from sgdlit.theory.noisy_quadratic import NoisyQuadratic
from sgdlit.theory.optimizers import SGD, HeavyBall, IterateAverage, Optimizer
from sgdlit.theory.schedules import Schedule

_PUBLISHED = {4.0: 1.51e6, 2.0**16: 8200.0}  # plain SGD on the standard instance, target 0.01
_PUBLISHED_TOLERANCE = 0.02
_PLAIN, _MOMENTUM, _AVERAGE, _SCHEDULE = "SGD", "momentum", "EMA", "schedule"


def run(options: NoisyQuadraticOptions, progress: Progress = silent) -> Study:
    """All of it; tables ``steps`` and ``schedules``."""
    if not options.batch_sizes:
        raise UserError("batch_sizes is empty: at least one is needed")
    if options.pieces < 1:
        raise UserError(f"pieces = {options.pieces}: a schedule has at least one")
    model = NoisyQuadratic.power_law(options.dimensions, options.exponent)
    batch_sizes = sorted(options.batch_sizes)
    options = replace(options, batch_sizes=batch_sizes)
    families = _families(options)
    if _PLAIN not in families:
        raise UserError(
            f"preconditioners = {options.preconditioners}: must hold 0, plain SGD, to compare with"
        )
    best, schedules = search(model, families, _PLAIN, options, progress)
    study = Study()
    study.tables["steps"] = _step_rows(model, best, schedules, batch_sizes, options)
    study.tables["schedules"] = _schedule_rows(batch_sizes, schedules) or [{"batch_size": None}]
    _claim(study, model, best, schedules, options)
    return study


def _families(o: NoisyQuadraticOptions) -> dict[str, list[Optimizer]]:
    """Optimizers that share a curve, by its name; the costliest first, so that processes end together."""
    families: dict[str, list[Optimizer]] = {
        _MOMENTUM: [HeavyBall(1 - v) for v in o.one_minus_momentum],
        _AVERAGE: [IterateAverage(1 - v) for v in o.one_minus_decay],
    }
    for gamma in o.preconditioners:
        families[_PLAIN if gamma == 0 else f"SGD, preconditioner γ = {gamma:g}"] = [SGD(gamma)]
    return families


def _step_rows(
    model: NoisyQuadratic,
    best: dict[str, list[Best]],
    schedules: list[Schedule | None],
    batch_sizes: list[float],
    o: NoisyQuadraticOptions,
) -> list[Row]:
    rows = []
    for name, found in best.items():
        for b in found:
            bound = model.information_bound(o.target, b.batch_size)
            rows.append(_step_row(name, b.batch_size, b.steps, b.lr, b.optimizer, bound))
    for batch_size, schedule in zip(batch_sizes, schedules, strict=True):
        bound = model.information_bound(o.target, batch_size)
        rows.append(_step_row(_SCHEDULE, batch_size, schedule and schedule.steps, None, SGD(), bound))
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
        "momentum": getattr(optimizer, "momentum", None),
        "decay": getattr(optimizer, "decay", None),
        "bound": bound,
    }


def _schedule_rows(batch_sizes: list[float], schedules: list[Schedule | None]) -> list[Row]:
    return [
        {"batch_size": b, "piece": j, "lr": lr, "steps": k}
        for b, schedule in zip(batch_sizes, schedules, strict=True)
        if schedule is not None
        for j, (lr, k) in enumerate(zip(schedule.lrs, schedule.durations, strict=True))
    ]


def _claim(
    study: Study,
    model: NoisyQuadratic,
    best: dict[str, list[Best]],
    schedules: list[Schedule | None],
    o: NoisyQuadraticOptions,
) -> None:
    """The claims that the numbers at hand can decide; where a target was not reached, a note says so."""
    missed = {name: [b.batch_size for b in found if b.steps is None] for name, found in best.items()}
    for name, sizes in missed.items():
        if sizes:
            study.notes.append(f"{name}: risk {o.target:g} is not reached at batch sizes {sizes}")
    plain = best[_PLAIN]
    if missed[_PLAIN] or len(plain) < 2 or min(b.steps for b in plain) == 0:
        study.notes.append(
            "plain SGD does not take steps to the target at every batch size: no claims about speed"
        )
        return
    _claim_regimes(study, model, plain, o)
    _claim_gains(study, best)
    _claim_bound(study, model, best, schedules, o)


def _claim_regimes(study: Study, model: NoisyQuadratic, plain: list[Best], o: NoisyQuadraticOptions) -> None:
    work = [b.batch_size * b.steps for b in plain]
    growth = min(after / before for before, after in pairwise(work))
    # A grid of rates leaves each optimum off by a little: a fall within it is none.
    study.claims.append(
        Claim(
            "G2",
            "B·T(B) never falls: its least growth from one B to the next",
            "≥ 0.95",
            f"{growth:.3f}",
            growth >= 0.95,
        )
    )
    standard = (o.dimensions, o.exponent, o.target, o.rates) == (10_000, 1.0, 0.01, 100)
    for b in plain:
        if standard and b.batch_size in _PUBLISHED:
            published = _PUBLISHED[b.batch_size]
            holds = abs(b.steps / published - 1) <= _PUBLISHED_TOLERANCE
            statement = f"steps of plain SGD to risk {o.target:g} at B = {b.batch_size:g}"
            study.claims.append(Claim("G6", statement, f"about {published:,.0f}", f"{b.steps:,}", holds))
    small = [b for b in plain if b.lr < 0.1 * model.largest_rate()]
    if len(small) >= 2:
        slope = np.polyfit(np.log([b.batch_size for b in small]), np.log([b.lr for b in small]), 1)[0]
        statement = "best rate as a power of B while it is below a tenth of the largest stable one"
        study.claims.append(Claim("G7", statement, "1 ± 0.1", f"{slope:.3f}", abs(slope - 1) <= 0.1))
    share = max(b.lr for b in plain) / model.largest_rate()
    statement = "the largest best rate stays below 2/h_max, as a share of it"
    study.claims.append(Claim("G7", statement, "< 1, near it", f"{share:.3f}", 0.5 < share < 1))


def _claim_gains(study: Study, best: dict[str, list[Best]]) -> None:
    """G8 and G9: plain SGD's steps over another's, at the smallest and at the largest batch size."""
    for name, found in best.items():
        if name == _PLAIN or any(not found[i].steps for i in (0, -1)):
            continue
        small, large = (best[_PLAIN][i].steps / found[i].steps for i in (0, -1))
        statement = f"{name}: gain over plain SGD at the smallest and the largest B"
        numbers = f"{small:.2f}× and {large:.2f}×"
        if name == _MOMENTUM:
            claim = ("G9", "about 1× and above 4×", 0.9 < small < 1.1 and large > 4)
        elif name == _AVERAGE:
            claim = ("G9", "above 2× and about 1×", small > 2 and 0.9 < large < 1.1)
        else:
            claim = ("G8", "large B gains more", large > small > 1)
        study.claims.append(Claim(claim[0], statement, claim[1], numbers, claim[2]))


def _claim_bound(
    study: Study,
    model: NoisyQuadratic,
    best: dict[str, list[Best]],
    schedules: list[Schedule | None],
    o: NoisyQuadraticOptions,
) -> None:
    taken = [(b.batch_size, b.steps) for found in best.values() for b in found if b.steps]
    taken += [(b.batch_size, s.steps) for b, s in zip(best[_PLAIN], schedules, strict=True) if s]
    least = min(steps / model.information_bound(o.target, b) for b, steps in taken)
    statement = f"least ratio of steps to D/(2 · target · B) over {len(taken)} tuned runs"
    study.claims.append(Claim("G11", statement, "≥ 1", f"{least:.3f}", least >= 1))
    bayes = max(model.bayes_risk(steps, b) for b, steps in taken)
    statement = f"largest Bayes risk after as many steps as the tuned runs took, at a target of {o.target:g}"
    study.claims.append(Claim("G11", statement, f"≤ {o.target:g}", f"{bayes:.5f}", bayes <= o.target))
    if schedules[0] is not None:
        b = best[_PLAIN][0]
        bound = model.information_bound(o.target, b.batch_size)
        constant, scheduled = b.steps / bound, schedules[0].steps / bound
        statement = (
            f"steps over the bound at B = {b.batch_size:g}: best schedule of {o.pieces} pieces, constant rate"
        )
        found = f"{scheduled:.2f} and {constant:.2f}"
        study.claims.append(
            Claim("G10", statement, "below 2, far above", found, scheduled < 2 < constant / 2)
        )
