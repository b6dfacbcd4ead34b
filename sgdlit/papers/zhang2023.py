"""Zhang et al. 2023, clipping and error feedback: per-example clipping moves the stationary point, feedback
repairs it.

Pitfalls: with a threshold for the error below that for the gradients the error grows without bound; and the
noise of a private run stays out of the error, or it would be fed back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed, in_the_mean
from sgdlit.theory.draws import numbered_generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METHODS = ("clipped", "error feedback", "error feedback and noise")


@dataclass
class Options:
    """SGD on ½(w − a_i)², a_i from an exponential distribution, with every example's gradient clipped.

    Symbols (Zhang et al., arXiv 2311.14632): C₁ the threshold of gradients, C₂ that of the error, σ the
    noise in units of C₁/B, ā the mean of the a_i, which is the minimiser.

    Args:
        values: how many a_i.
        threshold: C₁.
        feedback_threshold: C₂.
        noise: σ of the noisy method.
        batch_size: B, with replacement.
        runs: on each set of values.
        seeds: 0, 1, ..., this many sets of values.
        lrs: η; 60/η steps each.
    """

    values: int = 40
    threshold: float = 0.2
    feedback_threshold: float = 0.8
    noise: float = 1.0
    batch_size: int = 8
    runs: int = 64
    seeds: int = 10
    lrs: list[float] = field(default_factory=lambda: [0.1, 0.05, 0.025])


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Table ``bias``: w − ā of each method, mean over the second half, and what clipping's root predicts."""
    if o.seeds < 2 or o.values < 2 or o.runs < 1:
        raise UserError(f"seeds = {o.seeds}, values = {o.values}, runs = {o.runs}: at least 2, 2 and 1")
    from sgdlit.algorithms.transforms import PerExampleClip
    from sgdlit.papers.support.clipping_bias import clipped_root, stationary_mean

    values = np.stack([numbered_generator(s, 21).exponential(size=o.values) for s in range(o.seeds)])
    predicted = np.array([clipped_root(own, o.threshold) - own.mean() for own in values])
    rows: list[Row] = []
    for k, lr in enumerate(o.lrs):
        for method in _METHODS:
            c2 = None if method == "clipped" else o.feedback_threshold
            noise = o.noise if method == "error feedback and noise" else 0.0
            transform = PerExampleClip(o.threshold, c2, noise, seed=21)
            found = stationary_mean(transform, values, lr, o.runs, o.batch_size) - values.mean(1)
            rows += [
                {
                    "method": method,
                    "lr": lr,
                    "seed": s,
                    "predicted": float(predicted[s]),
                    "found": float(found[s]),
                }
                for s in range(o.seeds)
            ]
        workshop.progress("rates", k + 1, len(o.lrs))
    return Evidence({"bias": rows}, _findings(o, rows))


def _findings(o: Options, rows: list[Row]) -> list[Finding]:
    findings = []
    for lr in o.lrs:
        own = select(rows, method="clipped", lr=lr)
        ratios = np.array([r["found"] / r["predicted"] for r in own])
        name = f"clipped, η = {lr:g}: w − ā over that of the root of Σ clip(w − a_i, C₁)"
        findings += [
            in_the_mean("L21a", name, ratios, 0.97, 1.03),
            in_every_seed("L21a", name, ratios, 0.88, 1.12),
        ]
    for method in _METHODS[1:]:
        for lr, most in ((o.lrs[0], 0.04), (o.lrs[-1], 0.02)):
            own = select(rows, method=method, lr=lr)
            shares = np.array([abs(r["found"] / r["predicted"]) for r in own])
            findings.append(
                in_the_mean("L21b", f"{method}, η = {lr:g}: |w − ā| over clipping's", shares, 0, most)
            )
    return findings


def draw(tables: Tables) -> dict[str, Figure]:
    """|w − ā| over η by method, each seed a point; clipping's prediction dashed."""
    rows = tables["bias"]
    figure, (ax,) = panels(1, 1, width=5.0, height=3.7)
    for k, (color, marker, method) in enumerate(zip(COLORS, MARKERS, _METHODS, strict=False)):
        own = select(rows, method=method)
        aside = 1 + 0.06 * (k - 1)
        ax.plot(
            [aside * r["lr"] for r in own],
            [abs(r["found"]) for r in own],
            marker,
            color=color,
            markersize=3.5,
            alpha=0.7,
            label=method,
        )
    root = np.mean([abs(r["predicted"]) for r in rows])
    ax.axhline(root, color="black", linestyle="--", linewidth=1, label="root of Σ clip, mean over seeds")
    finish(ax, "bias of the stationary point (L21)", "learning rate η", "|w − ā|")
    return {"bias": figure}


_SOURCE = "Zhang, Bu, Wu & Hong 2023, arXiv 2311.14632"
_QUICK = (
    "½(w − a_i)² with 40 values from Exp(1), C₁ = 0.2, C₂ = 0.8, B = 8 with replacement, η = 0.1, 0.05, "
    "0.025, 60/η "
    "steps, 64 runs on each of 10 sets of values; noise of 1"
)
_FULL = "a vision transformer on CIFAR-10 and CIFAR-100 with the noise of differential privacy"

PAPER = Paper(
    "zhang2023",
    f"{_SOURCE}, Differentially private SGD without clipping bias: an error-feedback approach",
    (
        Experiment(
            "bias",
            (
                Claim(
                    "L21a",
                    "per-example clipping moves the stationary point by a constant",
                    _SOURCE,
                    "simulated",
                    "to the root of the mean clipped gradient: within 3 % on the mean, 12 % in every "
                    "seed, at every η",
                    _QUICK,
                    _FULL,
                ),
                Claim(
                    "L21b",
                    "feeding back what was clipped off removes the bias, with noise too",
                    _SOURCE,
                    "simulated",
                    "below 4 % of clipping's at η = 0.1, below 2 % at η = 0.025",
                    _QUICK,
                    _FULL,
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
