"""Andreyev & Beneventano 2024, the edge of stochastic stability: batch sharpness, not λ₁, settles at 2/ε.

The protocol matters. Batch sharpness rises as long as there is something left to fit: with large minibatches
on few examples the loss is gone before 2/ε is reached, and the curvature stays where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, NoOptions, Paper, Row, Tables, Workshop
from sgdlit.papers.support.edges import curve, ends, interval, mean
from sgdlit.papers.support.fresh_seeds import axis, in_words
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BATCH_SIZES = (4, 8)
_EDGE = (0.8, 1.2)  # of ε/2 times the batch sharpness
_BELOW = 0.8  # what ε/2 times λ₁ stays below
_LATE = 0.5  # the part of a run, its end, over which means are taken
_STEPS = 12_000
_SEEDS = 5
_MEMBERS = f"--ensemble=[{{model.optimizer.lr: [0.2, 0.15]}}, {axis(_SEEDS)}]"
_SMALL = [f"--data.steps={_STEPS}", f"--trainer.max_steps={_STEPS}", f"--trainer.val_check_interval={_STEPS}"]
_COLUMNS = {
    "sharpness": "measure/sharpness",
    "batch_sharpness": "measure/batch_sharpness",
    "of_means": "measure/batch_sharpness_of_means",
}


def measure(o: NoOptions, workshop: Workshop) -> Evidence:
    """Table ``edge``: by batch size, rate and seed, λ₁ and batch sharpness over steps, each times ε/2."""
    rows: list[Row] = []
    notes = []
    for size in _BATCH_SIZES:
        arguments = [f"--data.batch_size={size}", _MEMBERS, *(_SMALL if workshop.quick else [])]
        run = load_run(workshop.fit(f"sgd_{size}", "edge_of_stability/sgd.yaml", *arguments))
        for k, member in enumerate(run.members):
            lr, seed = float(run.value("model.optimizer.lr", k)), int(run.value("seed_everything", k))
            if member.state == "diverged":
                notes.append(f"ε = {lr:g}, B = {size}, seed {seed} diverged at step {member.step}: left out")
                continue
            rows += [
                {"batch_size": size, "lr": lr, "seed": seed, "step": row["step"]}
                | {name: lr / 2 * row[name] for name in _COLUMNS}
                for row in curve(member, _COLUMNS)
            ]
    findings = [f for lr in distinct(rows, "lr") for f in _findings(lr, select(rows, lr=lr))]
    return Evidence({"edge": rows}, findings, notes, seeds=in_words(_SEEDS))


def _findings(lr: float, rows: list[Row]) -> list[Finding]:
    """What the runs at one rate say, a number per seed."""
    found = []
    for size in _BATCH_SIZES:
        name, own = f"ε = {lr:g}, B = {size}", select(rows, batch_size=size)
        batch, plain = _late(own, "batch_sharpness"), _late(own, "sharpness")
        reached = _EDGE[0] <= mean(list(batch.values())) <= _EDGE[1]
        of_means = mean(list(_late(own, "of_means").values()))
        found += [
            Finding(
                "AB1", f"{name}: ε/2 times the batch sharpness, mean over the second half of the run",
                f"{_EDGE[0]} to {_EDGE[1]}", f"{mean(list(batch.values())):.3f}", reached,
                interval(list(batch.values())), f"E[ĝᵀĤĝ]/E‖ĝ‖², the ratio of means, is at {of_means:.3f}",
            ),
            Finding(
                "AB2", f"{name}: ε/2 times λ₁, mean over the second half of the run", f"< {_BELOW}",
                f"{mean(list(plain.values())):.3f}", ends(list(plain.values()))[1] < _BELOW,
                interval(list(plain.values())),
            ),
        ]  # fmt: skip
    small, large = (_late(select(rows, batch_size=size), "sharpness") for size in _BATCH_SIZES)
    ratios = [small[seed] / large[seed] for seed in small if seed in large]
    statement = f"ε = {lr:g}: λ₁ at B = {_BATCH_SIZES[0]} over λ₁ at B = {_BATCH_SIZES[1]}, by seed"
    below = ends(ratios)[1] < 1
    return [*found, Finding("AB3", statement, "< 1", f"{mean(ratios):.3f}", below, interval(ratios))]


def _late(rows: list[Row], name: str) -> dict[int, float]:
    """The mean of a column over the end of each run, by seed."""
    last = max(row["step"] for row in rows)
    late = [row for row in rows if row["step"] >= (1 - _LATE) * last]
    return {seed: mean([row[name] for row in select(late, seed=seed)]) for seed in distinct(rows, "seed")}


def draw(tables: Tables) -> dict[str, Figure]:
    """Batch sharpness and λ₁ over steps, times ε/2, a panel for each batch size and a line for each seed."""
    rows = tables["edge"]
    sizes, lrs, seeds = (distinct(rows, column) for column in ("batch_size", "lr", "seed"))
    figure, axes = panels(1, len(sizes), width=4.8)
    for ax, size in zip(axes, sizes, strict=True):
        for color, lr in zip(COLORS, lrs, strict=False):
            for k, seed in enumerate(seeds):
                own = select(rows, batch_size=size, lr=lr, seed=seed)
                steps = [row["step"] for row in own]
                for column, line, words in (
                    ("batch_sharpness", "-", "batch sharpness"), ("sharpness", "--", "λ₁ of all examples"),
                ):  # fmt: skip
                    style: dict[str, Any] = {"color": color, "linewidth": 1, "linestyle": line}
                    label = f"{words}, ε = {lr:g}" if k == 0 else None
                    ax.plot(steps, [row[column] for row in own], label=label, **style)
        ax.axhline(1, color="black", linestyle=":", linewidth=1, label="2/ε")
        ax.set_ylim(0, 1.5)
        finish(
            ax,
            f"SGD with minibatches of {size}, {len(seeds)} seeds each",
            "step",
            "curvature times ε/2",
            log="",
        )
    return {"edge_of_sgd": figure}


_QUICK = (
    "a tanh MLP 32–64–64–1 on 512 examples whose values a random MLP makes, squared error, B = 4 and 8 at "
    f"two rates, five seeds, {_STEPS} steps"
)
_FULL = "the same, 48 000 steps"


def _claim(identity: str, statement: str, source: str, prediction: str) -> Claim:
    source = f"Andreyev & Beneventano 2024, arXiv 2412.20553, {source}"
    config = "edge_of_stability/sgd.yaml"
    return Claim(identity, statement, source, "trained", prediction, _QUICK, _FULL, config)


PAPER = Paper(
    "andreyev2024",
    "Andreyev & Beneventano 2024, Edge of stochastic stability: revisiting the edge of stability for SGD, "
    "arXiv 2412.20553",
    (
        Experiment(
            "sgd",
            (
                _claim(
                    "AB1",
                    "under SGD at a constant rate the batch sharpness E[ĝᵀĤĝ/‖ĝ‖²] settles at about 2/ε",
                    "the main finding",
                    "its mean over the second half of the run lies within a fifth of 2/ε, at each rate and B",
                ),
                _claim(
                    "AB2",
                    "meanwhile the sharpness λ₁ of all examples stays below 2/ε",
                    "the main finding",
                    f"its mean over the second half is below {_BELOW}·2/ε, beyond the interval",
                ),
                _claim(
                    "AB3",
                    "at one rate, smaller minibatches end at a smaller λ₁",
                    "on the role of the batch size",
                    "the ratio of λ₁ at B = 4 to that at B = 8 is below 1, beyond its interval",
                ),
            ),
            measure,
            draw,
        ),
    ),
)
