"""What the studies of matrix sensing share: their source, the metrics of their runs, how a claim is told."""

from collections.abc import Sequence

from sgdlit.papers.claim import Claim
from sgdlit.papers.support.fresh_seeds import axis, fresh_seeds

BLOG = "Implicit bias in single epoch SGD (blog)"
ERROR, SQUARED_ERROR = "sensing/relative_error", "sensing/relative_squared_error"
ONE_RUN = "none: one run, compared with published numbers"
EACH_RUN = "none: each seed is judged by itself"
QUIET = [
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.logger",
    "false",
]
SEEDS = fresh_seeds(3)
MEMBERS = ["--ensemble", f"[{axis(len(SEEDS))}]"]


def trained(
    identity: str, statement: str, prediction: str, quick: str, full: str, config: str, shows: bool = True
) -> Claim:
    return Claim(
        identity,
        statement,
        f"{BLOG}, {identity}",
        "trained",
        prediction,
        quick,
        full,
        f"matrix_sensing/{config}",
        shows,
    )


def shown_errors(errors: Sequence[float | None]) -> str:
    """Those of some runs, in words."""
    return ", ".join(map(shown_error, errors))


def shown_error(error: float | None) -> str:
    """The error at the end of a run, None where it diverged, in words."""
    return "diverged" if error is None else f"{error:.3f}"
