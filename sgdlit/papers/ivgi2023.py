"""Ivgi, Hinder & Carmon 2023: DoG needs no learning rate and comes near tuned SGD (L16).

The average is part of the method: DoG's last iterate is several times worse. ``fit`` has both with the
optimizer ``dog.DoG`` (package dog-optimizer) and ``IterateAverage`` with ``polynomial: 8``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray

_N, _D, _BATCH, _LABEL_NOISE, _TEACHER, _LEAST = 1000, 50, 10, 0.5, 3.0, 0.1
_REPS = np.array([1e-8, 1e-6, 1e-4, 1e-2])
_RATES = 10.0 ** np.arange(-3.5, 2.1, 0.5)
_SCALES = (1.0, 100.0)


@dataclass
class Options:
    """Least squares by DoG and by SGD, both with polynomial averaging (L16).

    Symbols (Ivgi, Hinder & Carmon, arXiv 2302.12022; F19): r_ε (``reps_rel``) the first step relative to 1 +
    ‖w₀‖, the gap is the training loss above its minimum.

    Args:
        seeds: of data and visits, 0, 1, 2, ….
        steps: of each run.
    """

    seeds: int = 5
    steps: int = 10_000


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Table ``gaps``: the gap of average and last iterate for each method, setting and scale of the loss."""
    from sgdlit.theory.distance_over_gradients import train
    from sgdlit.theory.draws import generator

    evidence, apart = Evidence({"gaps": []}), []
    for seed in range(o.seeds):
        draw = generator(seed, "least squares for DoG")
        spread = np.geomspace(1, _LEAST, _D) / np.sqrt(_D)
        inputs = draw.standard_normal((_N, _D)) * spread
        targets = inputs @ (_TEACHER * draw.standard_normal(_D)) + _LABEL_NOISE * draw.standard_normal(_N)
        visits = draw.integers(0, _N, (o.steps, _BATCH))
        best = np.linalg.lstsq(inputs, targets, rcond=None)[0]
        gram = inputs.T @ inputs / _N
        averages = []
        for scale in _SCALES:
            found = train(inputs, targets, visits, _REPS, _RATES, scale)
            averages.append(found.average[: len(_REPS)])
            with np.errstate(over="ignore", invalid="ignore"):
                gaps = [0.5 * (((w - best) @ gram) * (w - best)).sum(-1) for w in found]
            evidence.tables["gaps"] += [
                {"seed": seed, "loss_scale": scale, "method": "DoG" if k < len(_REPS) else "SGD",
                 "setting": float(setting), "gap": _number(gaps[1][k]), "gap_of_last": _number(gaps[0][k])}
                for k, setting in enumerate([*_REPS, *_RATES])
            ]  # fmt: skip
        size = np.linalg.norm(averages[0], axis=-1)
        apart.append(np.linalg.norm(averages[1] - averages[0], axis=-1) / size)
        workshop.progress("seeds", seed + 1, o.seeds)
    evidence.findings = _judge(o, evidence.tables["gaps"], np.array(apart))
    return evidence


def _number(value: float) -> float | None:
    """None where a run diverged."""
    return float(value) if np.isfinite(value) else None


def _judge(o: Options, rows: list[Row], apart: Array) -> list[Finding]:
    def gaps(method: str, scale: float = 1.0, column: str = "gap") -> Array:
        chosen = select(rows, method=method, loss_scale=scale)
        return np.array([np.inf if r[column] is None else r[column] for r in chosen]).reshape(o.seeds, -1)

    dog, sgd, scaled = gaps("DoG"), gaps("SGD"), gaps("SGD", 100.0)
    best = sgd.argmin(1)
    least = sgd.min(1)
    slow = sgd[np.arange(o.seeds), best - 2] / least
    moved = np.log10(_RATES[best] / _RATES[scaled.argmin(1)])
    last = gaps("DoG", column="gap_of_last") / dog
    drop = "log₁₀ of SGD's best rate over the new best one"
    return [
        in_every_seed(
            "L16a", "gap of the average, DoG over best SGD, four r_ε", dog / least[:, None], 0.85, 1.15
        ),
        in_every_seed("L16a", "gap of SGD at a tenth of its best rate over that at the best", slow, low=5),
        in_every_seed(
            "L16a", "gap of DoG's last iterate over its average's", last, low=2, note="several times"
        ),
        in_every_seed(
            "L16b", "DoG: largest gap over r_ε over the smallest", dog.max(1) / dog.min(1), high=1.2
        ),
        in_every_seed("L16b", "loss × 100: relative change of DoG's average", apart, high=1e-6),
        in_every_seed("L16b", f"loss × 100: {drop}", moved, 2 - 1e-9, 2 + 1e-9),
    ]


def draw(tables: Tables) -> dict[str, Figure]:
    """The gap over SGD's rate, and over DoG's r_ε."""
    figure, axes = panels(1, 2)
    names = (("SGD", "learning rate"), ("DoG", "first step r_ε"))
    for ax, (method, label) in zip(axes, names, strict=True):
        for color, scale in zip(COLORS, _SCALES, strict=False):
            rows = [
                r for r in select(tables["gaps"], method=method, loss_scale=scale) if r["gap"] is not None
            ]
            x = sorted({r["setting"] for r in rows})
            middle = [np.median([r["gap"] for r in rows if r["setting"] == v]) for v in x]
            size = 6 if scale == 1 else 3
            ax.plot([r["setting"] for r in rows], [r["gap"] for r in rows], ".", color=color, alpha=0.35)
            ax.plot(
                x, middle, "o-", color=color, markersize=size, linewidth=1, label=f"average, loss × {scale:g}"
            )
        if method == "DoG":
            rows = select(tables["gaps"], method=method, loss_scale=1.0)
            ax.plot([r["setting"] for r in rows], [r["gap_of_last"] for r in rows], "x", color=COLORS[2],
                    markersize=5, label="last iterate")  # fmt: skip
        least = select(tables["gaps"], method="SGD", loss_scale=1.0)
        seeds = sorted({r["seed"] for r in least})
        best = [min(r["gap"] for r in least if r["seed"] == s and r["gap"] is not None) for s in seeds]
        ax.axhline(np.median(best), color="black", linestyle="--", linewidth=1, label="best SGD, median")
        ax.set_ylim(0.3 * min(best), 1e3 * max(best))
        finish(ax, f"{method} (L16)", label, "training loss above its minimum")
    return {"dog": figure}


_QUICK = (
    "n = 1000, d = 50, x_j ~ N(0, 1)/√50 · (log-spaced 1 … 0.1), w* ~ 3·N, noise 0.5, B = 10 with "
    "replacement, 10 000 "
    "steps, averages with γ = 8; rates 10^(−3.5) … 100 in half decades; r_ε = 1e-8 … 1e-2; 5 seeds"
)
_FULL = "fine-tuning of ViT-B/32 and RoBERTa with DoG and LDoG"


def _claim(identity: str, statement: str, section: str, prediction: str, other_seeds: str = "") -> Claim:
    source = f"Ivgi, Hinder & Carmon 2023, arXiv 2302.12022, {section}"
    return Claim(
        identity, statement, source, "trained", prediction, _QUICK, _FULL, "list/dog.yaml",
        other_seeds=other_seeds,
    )  # fmt: skip


PAPER = Paper(
    "ivgi2023",
    "Ivgi, Hinder & Carmon 2023, DoG is SGD's best friend: a parameter-free dynamic step size schedule, "
    "arXiv 2302.12022",
    (
        Experiment(
            "dog",
            (
                _claim(
                    "L16a",
                    "distance over gradients needs no rate and its average is near that of tuned SGD",
                    "section 4; F19",
                    "gap over best SGD's 0.85 to 1.15 for four r_ε, while SGD at a tenth of its best rate "
                    "is more than "
                    "5 times worse; the last iterate is several times worse",
                    "with 2000 to 2004 2 of 20 ratios are above 1.15, the largest is 1.17",
                ),
                _claim(
                    "L16b",
                    "it hardly depends on r_ε, and not on the scale of the loss",
                    "sections 3 and 4; F19",
                    "largest over smallest gap below 1.2; with the loss × 100 the weights are the same to "
                    "1e-6, where "
                    "SGD's best rate is 100 times smaller",
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
