"""Zhang et al. 2019: what the noisy quadratic model says about the batch size, and runs of it by ``fit``.

G2 and G7 to G11 are exact: the fewest steps to a target risk over the batch size
(``support/steps_to_target.py``); G6 compares them with published numbers. F5 and F8 compare the mean risk of
trained runs with the exact one (``support/mean_risks.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgdlit import theory
from sgdlit.figures.style import COLORS, MARKERS, finish, panels
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Tables, Workshop
from sgdlit.papers.support.mean_risks import draw_runs
from sgdlit.papers.support.mean_risks import measure_runs as measure_runs_in
from sgdlit.papers.support.steps_to_target import BEST_OF_GRID, Options, draw_steps, measure_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The published numbers: G6

_PUBLISHED = {4.0: 1.51e6, 2.0**16: 8200.0}  # plain SGD on the standard instance, target 0.01
_PUBLISHED_TOLERANCE, _PUBLISHED_TARGET = 0.02, 0.01


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
        evidence.findings.append(
            Finding("G6", statement, f"about {published:,.0f}", shown, holds, BEST_OF_GRID)
        )
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


# The paper


def measure_runs(options: Options, workshop: Workshop) -> Evidence:
    """F5 and F8, of the runs that the options name, or of some that are trained."""
    return measure_runs_in(options.runs, workshop)


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
