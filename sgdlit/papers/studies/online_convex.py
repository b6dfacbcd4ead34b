"""The study of online convex optimisation: the best iterate against the bound of F1 (B10)."""

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import mean_and_error
from sgdlit.papers.claim import Claim
from sgdlit.papers.studies.options import OnlineConvexOptions
from sgdlit.papers.studies.study import Progress, Study, silent
from sgdlit.theory.online_convex import regret_bound, simulate_stream


def run(options: OnlineConvexOptions, progress: Progress = silent) -> Study:
    """All of it; table ``regret``."""
    if not options.steps:
        raise UserError("steps is empty: at least one K is needed")
    study, rows = Study(), []
    for i, steps in enumerate(sorted(options.steps)):
        losses = simulate_stream(options.dimensions, options.distance, steps, options.runs, options.seed)
        bound = regret_bound(options.distance, 1.0, steps)
        mean, error = map(float, mean_and_error(losses))
        rows.append({"steps": steps, "mean": mean, "standard_error": error, "bound": bound})
        statement = f"mean loss of the best of K = {steps} iterates ({options.runs} runs)"
        found = f"{mean:.4g} ± {2 * error:.2g}"
        study.claims.append(Claim("B10", statement, f"≤ {bound:.4g}", found, mean + 2 * error <= bound))
        progress("runs", i + 1, len(options.steps))
    study.tables["regret"] = rows
    return study
