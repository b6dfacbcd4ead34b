"""Cohen et al. 2021, the edge of stability: under gradient descent the sharpness rises to 2/ε and stays."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, NoOptions, Paper, Row, Tables, Workshop
from sgdlit.papers.support.edges import edge_of
from sgdlit.papers.support.fresh_seeds import axis, in_words
from sgdlit.papers.support.seed_findings import all_seeds, in_every_seed
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EDGE = (0.9, 1.2)  # of ελ₁/2: about 1, or just above it
_RISES = 0.1  # least part of the measured intervals in which the loss rises at the edge
_LATE = (
    "the seed with the fewest reaches the edge at step 775 of 1000 only: λ₁ has risen to 1.04·2/ε when the "
    "run ends, and not come down yet, as it has with the others"
)
_STEPS = 1000
_SEEDS = 3
_MEMBERS = f"--ensemble=[{{model.optimizer.lr: [0.5, 0.35, 0.25]}}, {axis(_SEEDS)}]"
_SMALL = [
    "--model.network.widths=[32,64,64,5]", "--data.shard_size=500", "--data.batch_size=500",
    f"--data.steps={_STEPS}", f"--trainer.max_steps={_STEPS}", f"--trainer.val_check_interval={_STEPS}",
]  # fmt: skip


def measure(o: NoOptions, workshop: Workshop) -> Evidence:
    """Tables ``sharpness``: λ₁ and ελ₁/2 over steps, by ε and seed; ``loss``: the training loss likewise."""
    arguments = [_MEMBERS, *(_SMALL if workshop.quick else [])]
    run = load_run(workshop.fit("descent", "edge_of_stability/gradient_descent.yaml", *arguments))
    tables: Tables = {"sharpness": [], "loss": []}
    for k, member in enumerate(run.members):
        lr, seed = float(run.value("model.optimizer.lr", k)), int(run.value("seed_everything", k))
        steps, over = member.columns["measure/sharpness_over_limit"]
        tables["sharpness"] += [
            {"lr": lr, "seed": seed, "step": int(s), "over_limit": float(v), "sharpness": 2 * float(v) / lr}
            for s, v in zip(steps, over, strict=True)
        ]
        tables["loss"] += [
            {"lr": lr, "seed": seed, "step": int(s), "loss": float(v)}
            for s, v in zip(*member.columns["train/loss"], strict=True)
        ]
    lrs = distinct(tables["sharpness"], "lr")
    findings = [f for lr in lrs for f in _findings(lr, *(select(rows, lr=lr) for rows in tables.values()))]
    return Evidence(tables, findings, seeds=in_words(_SEEDS))


def _findings(lr: float, sharpness: list[Row], losses: list[Row]) -> list[Finding]:
    """What the runs at one rate say about each claim, every seed by itself."""
    name, limit = f"ε = {lr:g}", 2 / lr
    seeds = distinct(sharpness, "seed")
    curves = [select(sharpness, seed=seed) for seed in seeds]
    edges = [edge for curve in curves if (edge := edge_of(curve)) is not None]
    if len(edges) < len(seeds):
        most = ", ".join(f"{max(row['over_limit'] for row in curve):.2f}" for curve in curves)
        statement, found = f"{name}: ελ₁/2 reaches, by seed", f"at most {most}"
        return [Finding(c, statement, "1 in every seed", found, False, all_seeds(seeds)) for c in _IDS]
    own = [select(losses, seed=seed) for seed in seeds]
    ends = [_at_the_edge(*each) for each in zip(curves, own, edges, strict=True)]
    shown = ", ".join(str(edge) for edge in edges)
    rises = ", ".join(f"{end['least']:.3g} to {end['reached']:.3g}" for end in ends)
    down = ", ".join(f"{end['first_loss']:.3g} to {end['last_loss']:.3g}" for end in ends)
    rest = f"from the edge (steps {shown}) to the end"
    return [
        Finding(
            "ES1", f"{name}: λ₁ at its least before the edge and then, where 2/ε = {limit:.3g}, by seed",
            "rises from below 0.9·2/ε to 2/ε in every seed", rises,
            all(end["least"] < 0.9 * limit for end in ends), all_seeds(seeds),
        ),
        in_every_seed("ES2", f"{name}: mean of ελ₁/2 {rest}", [end["mean"] for end in ends], *_EDGE),
        in_every_seed(
            "ES3", f"{name}: part of the intervals of 5 steps in which the loss rises at the edge",
            [end["rises"] for end in ends], low=_RISES,
            note="" if min(end["rises"] for end in ends) >= _RISES else _LATE,
        ),
        Finding(
            "ES3", f"{name}: loss at the edge's begin and at the end, by seed", "falls in every seed", down,
            all(end["last_loss"] < end["first_loss"] for end in ends), all_seeds(seeds),
        ),
    ]  # fmt: skip


def _at_the_edge(curve: list[Row], losses: list[Row], edge: int) -> dict[str, float]:
    """Of one run: λ₁ before the edge, its mean over 2/ε from there on, and what the loss does there."""
    before = [row["sharpness"] for row in curve if row["step"] <= edge]
    over = [row["over_limit"] for row in curve if row["step"] >= edge]
    after = [row["loss"] for row in losses if row["step"] >= edge]
    return {
        "least": min(before), "reached": before[-1], "mean": sum(over) / len(over),
        "rises": sum(b > a for a, b in pairwise(after)) / max(1, len(after) - 1),
        "first_loss": after[0], "last_loss": after[-1],
    }  # fmt: skip


def draw(tables: Tables) -> dict[str, Figure]:
    """λ₁ over steps of every seed, with 2/ε dashed; the loss of the first seed."""
    figure, (left, right) = panels(1, 2)
    seeds = distinct(tables["sharpness"], "seed")
    for color, lr in zip(COLORS, distinct(tables["sharpness"], "lr"), strict=False):
        for k, seed in enumerate(seeds):
            curve = select(tables["sharpness"], lr=lr, seed=seed)
            left.plot([row["step"] for row in curve], [row["sharpness"] for row in curve], color=color,
                      linewidth=1, label=f"ε = {lr:g}" if k == 0 else None)  # fmt: skip
        left.axhline(2 / lr, color=color, linestyle="--", linewidth=1)
        losses = select(tables["loss"], lr=lr, seed=seeds[0])
        right.plot([row["step"] for row in losses], [row["loss"] for row in losses], color=color,
                   linewidth=0.8, label=f"ε = {lr:g}")  # fmt: skip
        edge = edge_of(select(tables["sharpness"], lr=lr, seed=seeds[0]))
        if edge is not None:
            right.axvline(edge, color=color, linestyle=":", linewidth=1)
    left.plot([], [], color="black", linestyle="--", linewidth=1, label="2/ε")
    right.plot([], [], color="black", linestyle=":", linewidth=1, label="λ₁ reaches 2/ε")
    left.set_ylim(bottom=0)
    finish(left, f"sharpness under gradient descent, {len(seeds)} seeds", "step", "λ₁", log="")
    finish(right, f"training loss, seed {seeds[0]}", "step", "½‖f − y‖²", log="y")
    return {"edge": figure}


_IDS = ("ES1", "ES2", "ES3")
_QUICK = (
    "a tanh MLP 32–64–64–5 on 500 examples labelled by a random MLP, squared error, three rates, three "
    "seeds, 1000 steps"
)
_FULL = "a tanh MLP 32–128–128–5 on 1000 examples, three seeds, 10 000 steps"


def _claim(identity: str, statement: str, source: str, prediction: str, shows: bool = True) -> Claim:
    source = f"Cohen, Kaur, Li, Kolter & Talwalkar 2021, arXiv 2103.00065, {source}"
    config = "edge_of_stability/gradient_descent.yaml"
    return Claim(identity, statement, source, "trained", prediction, _QUICK, _FULL, config, shows)


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
                    "λ₁ of less than 0.9·2/ε rises to 2/ε, at each of three rates and in every seed",
                ),
                _claim(
                    "ES2",
                    "once the sharpness is 2/ε it stays there or just above",
                    "section 3.2",
                    "a mean of ελ₁/2 from then on between 0.9 and 1.2, in every seed",
                ),
                _claim(
                    "ES3",
                    "at the edge the loss goes up and down, yet falls in the long run",
                    "section 3.3",
                    "it rises in at least a tenth of the intervals, and ends lower, in every seed",
                    shows=False,
                ),
            ),
            measure,
            draw,
        ),
    ),
)
