"""Cohen et al. 2021, the edge of stability: under gradient descent the sharpness rises to 2/ε and stays."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, NoOptions, Paper, Row, Tables, Workshop
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EDGE = (0.9, 1.2)  # of ελ₁/2: about 1, or just above it
_RISES = 0.1  # least part of the measured intervals in which the loss rises at the edge
_STEPS = 1000
_SMALL = [
    "--model.network.widths=[32,64,64,5]", "--data.shard_size=500", "--data.batch_size=500",
    f"--data.steps={_STEPS}", f"--trainer.max_steps={_STEPS}", f"--trainer.val_check_interval={_STEPS}",
]  # fmt: skip
_NO_INTERVAL = "none: one run, measured exactly on all its examples"


def measure(o: NoOptions, workshop: Workshop) -> Evidence:
    """Tables ``sharpness``: λ₁ and ελ₁/2 over steps, by ε; ``loss``: the training loss over steps, by ε."""
    run = load_run(workshop.fit("descent", "edge_of_stability/gradient_descent.yaml",
                                *(_SMALL if workshop.quick else [])))  # fmt: skip
    tables: Tables = {"sharpness": [], "loss": []}
    findings = []
    for k, member in enumerate(run.members):
        lr = float(run.value("model.optimizer.lr", k))
        steps, over = member.columns["measure/sharpness_over_limit"]
        curve: list[Row] = [
            {"lr": lr, "step": int(s), "over_limit": float(v), "sharpness": 2 * float(v) / lr}
            for s, v in zip(steps, over, strict=True)
        ]
        losses: list[Row] = [
            {"lr": lr, "step": int(s), "loss": float(v)}
            for s, v in zip(*member.columns["train/loss"], strict=True)
        ]
        tables["sharpness"] += curve
        tables["loss"] += losses
        findings += _findings(lr, curve, losses)
    return Evidence(tables, findings)


def edge_of(curve: list[Row]) -> int | None:
    """The first measured step at which λ₁ is at least 2/ε; None if it never is."""
    return next((int(row["step"]) for row in curve if row["over_limit"] >= 1), None)


def _findings(lr: float, curve: list[Row], losses: list[Row]) -> list[Finding]:
    """What a run at one rate says about each claim."""
    edge = edge_of(curve)
    name, limit = f"ε = {lr:g}", 2 / lr
    if edge is None:
        most = max(row["over_limit"] for row in curve)
        reached = f"{most:.2f} at most"
        return [Finding(c, f"{name}: ελ₁/2 reaches", "1", reached, False, _NO_INTERVAL) for c in _IDS]
    before = [row["sharpness"] for row in curve if row["step"] <= edge]
    least = min(before)
    at_edge = [row["over_limit"] for row in curve if row["step"] >= edge]
    mean = sum(at_edge) / len(at_edge)
    after = [row["loss"] for row in losses if row["step"] >= edge]
    rises = sum(b > a for a, b in pairwise(after)) / max(1, len(after) - 1)
    down = f"{after[0]:.3g} and {after[-1]:.3g}"
    return [
        Finding(
            "ES1", f"{name}: λ₁ at its least before step {edge}, and then, where 2/ε = {limit:.3g}",
            "rises to 2/ε", f"{least:.3g} and {before[-1]:.3g}", least < 0.9 * limit, _NO_INTERVAL,
        ),
        Finding(
            "ES2", f"{name}: mean of ελ₁/2 from step {edge} to the end", f"{_EDGE[0]} to {_EDGE[1]}",
            f"{mean:.3f}", _EDGE[0] <= mean <= _EDGE[1], _NO_INTERVAL,
        ),
        Finding(
            "ES3", f"{name}: part of the intervals of 5 steps in which the loss rises at the edge",
            f"≥ {_RISES}", f"{rises:.2f}", rises >= _RISES, _NO_INTERVAL,
        ),
        Finding("ES3", f"{name}: loss at the edge's begin and at the end", "falls", down,
                after[-1] < after[0], _NO_INTERVAL),
    ]  # fmt: skip


def draw(tables: Tables) -> dict[str, Figure]:
    """λ₁ and the loss over steps, with 2/ε dashed."""
    figure, (left, right) = panels(1, 2)
    for color, lr in zip(COLORS, distinct(tables["sharpness"], "lr"), strict=False):
        curve, losses = (select(tables[name], lr=lr) for name in ("sharpness", "loss"))
        steps = [row["step"] for row in curve]
        left.plot(steps, [row["sharpness"] for row in curve], color=color, label=f"ε = {lr:g}")
        left.axhline(2 / lr, color=color, linestyle="--", linewidth=1)
        right.plot([row["step"] for row in losses], [row["loss"] for row in losses], color=color,
                   linewidth=0.8, label=f"ε = {lr:g}")  # fmt: skip
        edge = edge_of(curve)
        if edge is not None:
            right.axvline(edge, color=color, linestyle=":", linewidth=1)
    left.plot([], [], color="black", linestyle="--", linewidth=1, label="2/ε")
    right.plot([], [], color="black", linestyle=":", linewidth=1, label="λ₁ reaches 2/ε")
    left.set_ylim(bottom=0)
    finish(left, "sharpness under gradient descent", "step", "λ₁", log="")
    finish(right, "training loss", "step", "½‖f − y‖²", log="y")
    return {"edge": figure}


_IDS = ("ES1", "ES2", "ES3")
_QUICK = (
    "a tanh MLP 32–64–64–5 on 500 examples labelled by a random MLP, squared error, three rates, 1000 steps"
)
_FULL = "a tanh MLP 32–128–128–5 on 1000 examples, 10 000 steps"


def _claim(identity: str, statement: str, source: str, prediction: str) -> Claim:
    source = f"Cohen, Kaur, Li, Kolter & Talwalkar 2021, arXiv 2103.00065, {source}"
    config = "edge_of_stability/gradient_descent.yaml"
    return Claim(identity, statement, source, "trained", prediction, _QUICK, _FULL, config)


PAPER = Paper(
    "cohen2021",
    "Cohen et al. 2021, Gradient descent on neural networks typically occurs at the edge of stability, "
    "arXiv 2103.00065",
    (
        Experiment(
            "descent",
            (
                _claim(
                    "ES1",
                    "as long as gradient descent is stable, the sharpness rises",
                    "section 3.1",
                    "λ₁ of less than 0.9·2/ε rises to 2/ε, at each of three rates",
                ),
                _claim(
                    "ES2",
                    "once the sharpness is 2/ε it stays there or just above",
                    "section 3.2",
                    "a mean of ελ₁/2 from then on between 0.9 and 1.2",
                ),
                _claim(
                    "ES3",
                    "at the edge the loss goes up and down, yet falls in the long run",
                    "section 3.3",
                    "it rises in at least a tenth of the intervals, and ends lower",
                ),
            ),
            measure,
            draw,
        ),
    ),
)
