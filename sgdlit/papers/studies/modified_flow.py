"""The study of the modified flow: slopes (M1–M4, M6), identities (M5), the two-dimensional example (IGR)."""

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim
from sgdlit.papers.studies.options import ModifiedFlowOptions
from sgdlit.papers.studies.study import Progress, Row, Study, silent
from sgdlit.theory import implicit_gradient as igr
from sgdlit.theory.losses import largest_curvature, mean_loss
from sgdlit.theory.modified_flow import Curve, orders_for, penalty_identities, slope_curves
from sgdlit.theory.problems import Problem, data_folder, fashion_mnist, random_regression

SLOPE_TOLERANCE = 0.1
_IDENTITY_TOLERANCE = 1e-12
_IDENTITY_EXAMPLES = 10
_STATEMENTS = {
    "M1": "mean iterate over orders,",
    "M2": "iterates of one epoch,",
    "M3": "an epoch then its reverse,",
    "M4": "gradient descent,",
    "M6": "n-step SGD,",
}


def run(options: ModifiedFlowOptions, progress: Progress = silent) -> Study:
    """All of it; tables ``slopes``, ``identities``, ``igr`` and ``igr_paths``."""
    if options.halvings < 1:
        raise UserError(f"halvings = {options.halvings}: a slope needs at least one")
    if not options.n_steps or min(options.n_steps) < 1:
        raise UserError(f"n_steps = {options.n_steps}: n-step SGD takes 1 or more updates per minibatch")
    if len(options.igr_steps) < 2:
        raise UserError(f"igr_steps = {options.igr_steps}: at least two are compared")
    orders = orders_for(options.m, options.order_pairs, options.seed)
    problems, study = _problems(options), Study()
    igr_claim = _add_igr(study, options)
    total, done = len(problems) * (options.halvings + 1), 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress("flows and epochs", done, total)

    for problem, largest in problems:
        lrs = [largest * 2.0**-k for k in range(options.halvings + 1)]
        curves = slope_curves(problem.minibatches, problem.start, lrs, orders, options.n_steps, advance)
        study.tables.setdefault("slopes", []).extend(_slope_rows(problem.name, curves))
        study.claims += [_slope_claim(problem.name, curve) for curve in curves]
        _add_identities(study, problem)
    if len(problems) == 1:
        study.notes.append("Fashion-MNIST left out: no data folder (--data_dir or SGDLIT_DATA)")
    study.claims.append(igr_claim)
    return study


def _problems(options: ModifiedFlowOptions) -> list[tuple[Problem, float]]:
    o = options
    problems = [(random_regression(o.m, o.batch_size, o.inputs, o.scale, o.seed), o.largest_lr)]
    if (folder := data_folder(o.data_dir)) is not None:
        problems.append((fashion_mnist(folder, o.m, o.batch_size, o.scale, o.seed), o.largest_lr_images))
    for problem, lr in problems:
        curvature = largest_curvature(mean_loss(problem.minibatches), problem.start)
        if not 0 < lr * abs(curvature) < 1:
            raise UserError(
                f"largest_lr = {lr} on {problem.name}: must lie above 0 and well below "
                f"{1 / abs(curvature):.3g}, one over the largest curvature of C at the start: the powers are "
                "those of ε → 0"
            )
    return problems


def _slope_rows(name: str, curves: list[Curve]) -> list[Row]:
    return [
        {"problem": name, "claim": c.claim, "label": c.label, "slope": c.slope, "lr": lr, "distance": d}
        for c in curves
        for lr, d in zip(c.lrs, c.distances, strict=True)
    ]


def _slope_claim(name: str, curve: Curve) -> Claim:
    found = curve.fitted_slope()
    statement = f"{name}: {_STATEMENTS[curve.claim]} {curve.label}, as a power of ε"
    holds = abs(found - curve.slope) <= SLOPE_TOLERANCE
    return Claim(curve.claim, statement, f"{curve.slope} ± {SLOPE_TOLERANCE}", f"{found:.3f}", holds)


def _add_identities(study: Study, problem: Problem) -> None:
    examples = problem.examples[:_IDENTITY_EXAMPLES]
    differences = penalty_identities(examples, problem.start, range(1, len(examples) + 1))
    for equation, difference in differences.items():
        study.tables.setdefault("identities", []).append(
            {"problem": problem.name, "equation": equation, "relative_difference": difference}
        )
        statement = f"{problem.name}: the two sides of {equation} differ by, relative"
        holds = difference <= _IDENTITY_TOLERANCE
        study.claims.append(
            Claim("M5", statement, f"≤ {_IDENTITY_TOLERANCE:.0e}", f"{difference:.1e}", holds)
        )


def _add_igr(study: Study, options: ModifiedFlowOptions) -> Claim:
    problem, rows, paths = igr.BarrettDherin(), [], []
    for step in [0.0, *sorted(options.igr_steps)]:
        flow = igr.modified_path(problem, step, options.igr_time)
        found = None
        if step > 0:
            descent = igr.descent_path(problem, step, options.igr_time)
            found = igr.squared_norm(descent)
            paths += _path_rows("descent", step, descent)
        paths += _path_rows("modified flow", step, flow)
        rows.append({"step": step, "descent": found, "modified_flow": igr.squared_norm(flow)})
    study.tables |= {"igr": rows, "igr_paths": paths}
    ends = np.array([row["descent"] for row in rows[1:]])
    statement = "E = ½(y − abx)²: a² + b² at the end of descent, from the smallest to the largest step"
    found = " > ".join(f"{end:.3f}" for end in ends)
    return Claim("IGR", statement, "falls", found, bool((np.diff(ends) < 0).all()))


def _path_rows(kind: str, step: float, path: np.ndarray) -> list[Row]:
    return [{"kind": kind, "step": step, "a": float(a), "b": float(b)} for a, b in path]
