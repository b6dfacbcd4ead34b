"""Francazi et al. 2022, class imbalance: what the minority's loss does at first, and what repairs it.

Pitfalls: a minibatch may lack the minority, whose gradient then says nothing (its length is held above 1e-8
before it is divided by); and a normalised gradient from the one or two minority examples of a minibatch is
mostly noise, which is why per-class normalisation helps on the full batch only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import band, in_every_seed, in_the_mean, range_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METHODS = ("GD", "PCNGD", "SGD", "PCNSGD", "oversampling")
_RISE, _FALL = 60, 15  # steps in which the minority's loss rises under GD, and both fall under PCNGD
_LATE = 100  # from here on the minority's loss is averaged


@dataclass
class Options:
    """A ReLU network with one hidden layer on two Gaussian classes of unequal sizes, logistic loss.

    Symbols (Francazi et al., arXiv 2207.00391): the minority has n₀ examples, the majority r·n₀; C_0 is the
    mean loss of the minority.

    Args:
        inputs: d; the classes have the means ±1.5 along a random direction, and unit covariance.
        hidden: units.
        minority: n₀.
        ratio: r.
        other_ratios: at which GD alone is run, for as long as the loss rises; 1 has 300 examples of each
            class.
        lr: learning rate.
        steps: of all methods.
        batch_size: of the stochastic ones.
        seeds: 0, 1, ..., this many.
    """

    inputs: int = 20
    hidden: int = 64
    minority: int = 30
    ratio: int = 20
    other_ratios: list[int] = field(default_factory=lambda: [1, 2, 5, 50])
    lr: float = 0.2
    steps: int = 400
    batch_size: int = 32
    seeds: int = 10


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Table ``loss``: mean loss of each class over steps, by method, ratio and seed."""
    for name, least in {"minority": 1, "ratio": 2, "steps": _LATE + 1, "seeds": 2}.items():
        if vars(o)[name] < least:
            raise UserError(f"{name} = {vars(o)[name]}: must be at least {least}")
    from sgdlit.papers.support.two_classes import Setting, run

    setting = Setting(o.inputs, o.hidden, o.lr, o.batch_size, o.seeds)
    rows: list[Row] = []
    for ratio in [o.ratio, *o.other_ratios]:
        methods = _METHODS if ratio == o.ratio else ("GD",)
        for method in methods:
            counts = (300, 300) if ratio == 1 else (o.minority, ratio * o.minority)
            curves = run(setting, method, counts, o.steps if ratio == o.ratio else _RISE)
            rows += [
                {
                    "method": method,
                    "ratio": ratio,
                    "seed": s,
                    "step": t,
                    "minority": float(curves[0, t, s]),
                    "majority": float(curves[1, t, s]),
                }
                for s in range(o.seeds)
                for t in range(curves.shape[1])
            ]
        workshop.progress("ratios", 1 + [o.ratio, *o.other_ratios].index(ratio), 1 + len(o.other_ratios))
    return Evidence({"loss": rows}, _findings(o, rows))


def _findings(o: Options, rows: list[Row]) -> list[Finding]:
    def curves(method: str, ratio: int, label: str) -> np.ndarray:
        own = select(rows, method=method, ratio=ratio)
        return np.array([[r[label] for r in select(own, seed=s)] for s in range(o.seeds)])

    def rise(ratio: int) -> np.ndarray:
        own = curves("GD", ratio, "minority")[:, : _RISE + 1]
        return own.max(1) / own[:, 0]

    def late(method: str) -> np.ndarray:
        return curves(method, o.ratio, "minority")[:, _LATE:].mean(1)

    rises = {ratio: rise(ratio) for ratio in sorted([o.ratio, *o.other_ratios])}
    name = f"largest loss of the minority in {_RISE} steps of GD over its start"
    findings = [
        in_every_seed("L40a", f"ratio {o.ratio}: {name}", rises[o.ratio], 1.2, np.inf),
        in_the_mean("L40a", f"ratio {o.ratio}: {name}", rises[o.ratio], 1.8, np.inf),
    ]
    means = {ratio: float(own.mean()) for ratio, own in rises.items()}
    grows = list(means.values()) == sorted(means.values())
    found = ", ".join(f"{mean:.2f} at {ratio}" for ratio, mean in means.items())
    findings.append(
        Finding(
            "L40a",
            f"mean over the seeds of the {name}, over the ratio",
            "grows",
            found,
            grows,
            "none: an order of means",
        )
    )
    if 1 in rises:
        findings.append(in_the_mean("L40a", f"balanced: {name}", rises[1], 0, 1.2))
        statement = f"balanced over ratio {o.ratio}: {name}"
        findings.append(in_every_seed("L40a", statement, rises[1] / rises[o.ratio], 0, 1))
    both = [curves("PCNGD", o.ratio, label)[:, : _FALL + 1] for label in ("minority", "majority")]
    largest = np.max([np.diff(own, axis=1).max(1) for own in both], 0)
    statement = f"PCNGD: largest change of either class's loss in one of the first {_FALL} steps"
    findings.append(in_every_seed("L40b", statement, largest, -np.inf, 0))
    plain = late("SGD")
    for method, claim, low, high in (
        ("PCNGD", "L40b", 0.0, 0.2),
        ("oversampling", "L40c", 0.0, 0.2),
        ("PCNSGD", "L40c", 1.0, np.inf),
    ):
        own = late(method)
        statement = f"minority's loss over steps {_LATE} to {o.steps}, mean over the seeds: {method} over SGD"
        ratio = float(own.mean() / plain.mean())
        each = own / plain
        findings.append(
            Finding(
                claim,
                statement,
                band(low, high),
                f"{ratio:.3g}, seeds {range_of(each)}",
                low <= ratio <= high,
                "none: a ratio of means; the range over the seeds is given",
            )
        )
    return findings


def draw(tables: Tables) -> dict[str, Figure]:
    """Losses of both classes over steps by method; and the minority's under GD at each ratio."""
    rows = tables["loss"]
    figure, axes = panels(1, 3, width=4.2, height=3.5)
    ratio = next(r["ratio"] for r in rows if r["method"] == "SGD")
    for ax, label in zip(axes, ("minority", "majority"), strict=False):
        for color, method in zip(COLORS, _METHODS, strict=False):
            steps, mean = _mean_curve(select(rows, method=method, ratio=ratio), label)
            ax.plot(steps, mean, color=color, linewidth=1.1, label=method)
        finish(ax, f"the {label}'s loss at ratio {ratio} (L40)", "step", "mean loss of the class", log="y")
    ratios = sorted({r["ratio"] for r in rows})
    for color, own in zip(COLORS, ratios, strict=False):
        steps, mean = _mean_curve(select(rows, method="GD", ratio=own), "minority")
        axes[2].plot(steps[: _RISE + 1], mean[: _RISE + 1] / mean[0], color=color, label=f"ratio {own}")
    axes[2].axhline(1, color="black", linestyle="--", linewidth=1)
    finish(axes[2], "the minority's loss under GD", "step", "over its start", log="")
    return {"imbalance": figure}


def _mean_curve(rows: list[Row], label: str) -> tuple[np.ndarray, np.ndarray]:
    steps = np.array(sorted({r["step"] for r in rows}))
    values = np.array([r[label] for r in rows]).reshape(-1, len(steps))
    return steps, values.mean(0)


_SOURCE = "Francazi, Baity-Jesi & Lucchi 2022, arXiv 2207.00391"
_QUICK = (
    "d = 20, means ±1.5 along a random direction, 30 and 600 examples, a ReLU network 20–64–1, rate "
    "0.2, 400 steps, "
    "B = 32 with replacement, 10 seeds; GD also at the ratios 2, 5, 50 and balanced"
)
_FULL = "two classes of CIFAR-10, one of them thinned out"
_CONFIG = "list/class_imbalance_images.yaml"


def _claim(identity: str, statement: str, prediction: str) -> Claim:
    return Claim(identity, statement, _SOURCE, "simulated", prediction, _QUICK, _FULL, _CONFIG)


PAPER = Paper(
    "francazi2022",
    f"{_SOURCE}, A theoretical analysis of the learning dynamics under class imbalance",
    (
        Experiment(
            "imbalance",
            (
                _claim(
                    "L40a",
                    "under imbalance gradient descent first raises the minority's loss",
                    "by more than 1.2 times in every seed, 1.8 on the mean, the more the larger the "
                    "ratio; balanced less "
                    "than 1.2 on the mean, and less than with imbalance in every seed",
                ),
                _claim(
                    "L40b",
                    "with per-class normalised gradients the losses of both classes fall from the start",
                    "no rise in the first 15 steps in any seed, and a minority's loss below a fifth of SGD's",
                ),
                _claim(
                    "L40c",
                    "under minibatches the noise takes that away, and oversampling works",
                    "PCNSGD's minority loss is above SGD's, that of oversampling below a fifth",
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
