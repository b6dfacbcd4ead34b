"""Cohen et al. 2022, Adam's edge of stability: the preconditioned sharpness rises to 38/ε and stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, NoOptions, Paper, Row, Tables, Workshop
from sgdlit.papers.support.edges import curve, edge_of, ends, interval, mean
from sgdlit.papers.support.fresh_seeds import axis, in_words
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EDGE = (0.9, 1.1)  # of the preconditioned sharpness over its limit
_STEPS = 1500
_SEEDS = 3
_MEMBERS = f"--ensemble=[{{model.optimizer.lr: [1.0e-2, 5.0e-3, 3.0e-3]}}, {axis(_SEEDS)}]"
_SMALL = [
    "--model.network.widths=[32,64,64,5]",
    f"--data.steps={_STEPS}", f"--trainer.max_steps={_STEPS}", f"--trainer.val_check_interval={_STEPS}",
]  # fmt: skip
_FITTED = (
    "from the edge on λ₁ rises for some hundred steps by a few percent, then stays, or falls a little at the "
    "largest rate: the loss is soon fitted, and what sharpens it goes with it"
)
_AXIS = r"$\varepsilon\,\lambda_1(D^{-1/2}HD^{-1/2})\,/\,38$"
_COLUMNS = {"over_limit": "measure/preconditioned_sharpness_over_limit", "sharpness": "measure/sharpness"}


def measure(o: NoOptions, workshop: Workshop) -> Evidence:
    """Table ``adam``: by rate and seed, λ₁ and the preconditioned one over its limit, over steps."""
    run = load_run(
        workshop.fit("adam", "edge_of_stability/adam.yaml", _MEMBERS, *(_SMALL if workshop.quick else []))
    )
    rows: list[Row] = []
    for k, member in enumerate(run.members):
        lr, seed = float(run.value("model.optimizer.lr", k)), int(run.value("seed_everything", k))
        rows += [{"lr": lr, "seed": seed, **row} for row in curve(member, _COLUMNS)]
    findings = [f for lr in distinct(rows, "lr") for f in _findings(lr, select(rows, lr=lr))]
    return Evidence({"adam": rows}, findings, seeds=in_words(_SEEDS))


def _findings(lr: float, rows: list[Row]) -> list[Finding]:
    """What the runs at one rate say, a number per seed."""
    curves = [select(rows, seed=seed) for seed in distinct(rows, "seed")]
    edges = [edge_of(each) for each in curves]
    name = f"ε = {lr:g}"
    starts = [each[0]["over_limit"] for each in curves]
    reached = [max(row["over_limit"] for row in each) for each in curves]
    first = Finding(
        "AE1", f"{name}: preconditioned sharpness over 38/ε, first measured and highest, means over seeds",
        "below 0.9, at least 1", f"{mean(starts):.2f} and {mean(reached):.2f}",
        all(s < 0.9 for s in starts) and None not in edges, interval(reached),
    )  # fmt: skip
    if None in edges:
        note = f"the limit is not reached in {sum(edge is None for edge in edges)} of {len(edges)} seeds"
        return [first, *(Finding(c, f"{name}: at the edge", "reached", "not reached in all seeds", False,
                                 "none: nothing to measure", note) for c in ("AE2", "AE3"))]  # fmt: skip
    after = [[row for row in each if row["step"] >= edge] for each, edge in zip(curves, edges, strict=True)]
    means = [mean([row["over_limit"] for row in each]) for each in after]
    rises = [each[-1]["sharpness"] / each[0]["sharpness"] for each in after]
    shown = ", ".join(str(edge) for edge in edges)
    return [
        first,
        Finding(
            "AE2", f"{name}: mean of it over 38/ε from the edge (steps {shown}) to the end",
            f"{_EDGE[0]} to {_EDGE[1]}", f"{mean(means):.3f}", _EDGE[0] <= mean(means) <= _EDGE[1],
            interval(means),
        ),
        Finding(
            "AE3", f"{name}: the sharpness λ₁ at the end, over that where the edge was reached", "> 1",
            f"{mean(rises):.2f}", ends(rises)[0] > 1, interval(rises), "" if ends(rises)[0] > 1 else _FITTED,
        ),
    ]  # fmt: skip


def draw(tables: Tables) -> dict[str, Figure]:
    """Preconditioned sharpness over 38/ε, and the sharpness itself, over steps; a line for each seed."""
    figure, (left, right) = panels(1, 2)
    rows = tables["adam"]
    seeds = distinct(rows, "seed")
    for color, lr in zip(COLORS, distinct(rows, "lr"), strict=False):
        for k, seed in enumerate(seeds):
            own = select(rows, lr=lr, seed=seed)
            steps = [row["step"] for row in own]
            style: dict[str, Any] = {
                "color": color,
                "linewidth": 1,
                "label": f"ε = {lr:g}" if k == 0 else None,
            }
            left.plot(steps, [row["over_limit"] for row in own], **style)
            right.plot(steps, [row["sharpness"] for row in own], **style)
    left.axhline(1, color="black", linestyle="--", linewidth=1, label="Adam's limit, 38/ε")
    left.set_ylim(0, None)
    finish(left, "preconditioned sharpness under Adam, over its limit", "step", _AXIS, log="")
    finish(right, f"the sharpness itself, {len(seeds)} seeds each", "step", "λ₁(H)", log="")
    return {"adam_edge": figure}


_QUICK = (
    "a tanh MLP 32–64–64–5 on 1500 examples labelled by a random MLP, squared error, full-batch Adam at "
    f"three rates, three seeds, {_STEPS} steps"
)
_FULL = "a tanh MLP 32–128–128–5, 10 000 steps"


def _claim(identity: str, statement: str, source: str, prediction: str, shows: bool = True) -> Claim:
    source = f"Cohen, Ghorbani, Krishnan et al. 2022, arXiv 2207.14484, {source}"
    config = "edge_of_stability/adam.yaml"
    return Claim(identity, statement, source, "trained", prediction, _QUICK, _FULL, config, shows)


PAPER = Paper(
    "cohen2022",
    "Cohen et al. 2022, Adaptive gradient methods at the edge of stability, arXiv 2207.14484",
    (
        Experiment(
            "adam",
            (
                _claim(
                    "AE1",
                    "under full-batch Adam the preconditioned sharpness rises to 2(1 + β₁)/((1 − β₁)ε)",
                    "section 3",
                    "from below 0.9 of 38/ε to 38/ε, at each of three rates and in every seed",
                ),
                _claim(
                    "AE2",
                    "and equilibrates there",
                    "section 3",
                    "a mean from then on between 0.9 and 1.1 of 38/ε",
                ),
                _claim(
                    "AE3",
                    "while it is at the edge, Adam goes on into regions of larger curvature",
                    "section 4",
                    "the sharpness is higher at the end than where the edge was reached, beyond its interval",
                    shows=False,
                ),
            ),
            measure,
            draw,
        ),
    ),
)
