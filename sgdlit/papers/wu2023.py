"""Wu et al. 2023, shuffling with batch norm: a single shuffle fits its own normalised data set, not the data.

Pitfalls: reshuffling avoids the distortion in direction, not in length: its optimum is a little shorter than
gradient descent's. And in the construction a batch whose labels are all equal cannot be separated, since its
normalised rows sum to 0: such orders are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, binary_ticks, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed, in_the_mean, range_of
from sgdlit.papers.support.slopes import log_slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Options:
    """A linear model on batch-normalised inputs: ŷ = M·BN_B(x).

    Symbols (Wu, Yun & Sra, arXiv 2302.12444; F22): π an order; X̄_π the inputs normalised batch by batch in
    it; M_SS, M_RR, M_GD the minimisers for a single shuffle, reshuffling and full-batch statistics.

    Args:
        examples: N of the regression.
        weights: d of the regression.
        batch_sizes: B of the regression.
        trained_batch_size: B of the regression that SGD is run on.
        epochs: of that run, its rate falling linearly from ``lr`` to 0.
        lr: see ``epochs``.
        orders: over which M_RR is taken.
        hard_examples: N of the classification.
        hard_weights: d of the classification.
        hard_batch_size: B of the classification.
        hard_epochs: of the classification.
        hard_lr: of the classification.
        seeds: 0, 1, ..., this many.
    """

    examples: int = 128
    weights: int = 10
    batch_sizes: list[int] = field(default_factory=lambda: [4, 8, 32])
    trained_batch_size: int = 8
    epochs: int = 600
    lr: float = 0.01
    orders: int = 300
    hard_examples: int = 48
    hard_weights: int = 20
    hard_batch_size: int = 4
    hard_epochs: int = 3000
    hard_lr: float = 0.3
    seeds: int = 5


def measure_regression(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``optima``: how far M_SS and M_RR are from M_GD; ``trained``: SGD from its optimum."""
    _check(o)
    from sgdlit.papers.support.shuffled_batch_norm import regression_data, regression_sgd
    from sgdlit.theory import batch_norm

    optima: list[Row] = []
    data, orders, wanted = [], [], []
    for seed in range(o.seeds):
        x, y, rng = regression_data(seed, o.examples, o.weights)
        many = np.stack([rng.permutation(o.examples) for _ in range(o.orders)])
        descent = batch_norm.full_batch_optimum(x, y)
        for b in o.batch_sizes:
            single = batch_norm.single_shuffle_optimum(x, y, many[0], b)
            random = batch_norm.reshuffling_optimum(x, y, many, b)
            optima += [
                {"order": name, "batch_size": b, "seed": seed, **_apart(m, descent)}
                for name, m in (("single shuffle", single), ("reshuffling", random))
            ]
            if b == o.trained_batch_size:
                wanted += [single, random]
        data += [(x, y)] * 2
        again = np.stack([rng.permutation(o.examples) for _ in range(o.epochs)])
        orders += [np.tile(many[0], (o.epochs, 1)), again]
    inputs, targets = (np.stack(part) for part in zip(*data, strict=True))
    found = regression_sgd(inputs, targets, np.stack(orders, 1), o.trained_batch_size, o.lr)
    trained: list[Row] = [
        {
            "order": ("single shuffle", "reshuffling")[k % 2],
            "seed": k // 2,
            "distance": float(np.linalg.norm(m - best) / np.linalg.norm(best)),
        }
        for k, (m, best) in enumerate(zip(found, wanted, strict=True))
    ]
    tables: Tables = {"optima": optima, "trained": trained}
    return Evidence(tables, _regression_findings(o, tables))


def _check(o: Options) -> None:
    for name, least in {"seeds": 2, "orders": 2, "epochs": 1}.items():
        if vars(o)[name] < least:
            raise UserError(f"{name} = {vars(o)[name]}: must be at least {least}")
    sizes = [(o.examples, b) for b in [*o.batch_sizes, o.trained_batch_size]]
    for examples, b in [*sizes, (o.hard_examples, o.hard_batch_size)]:
        if b < 2 or examples % b:
            raise UserError(f"batch size {b}: must divide {examples} examples, and be at least 2")
    if o.trained_batch_size not in o.batch_sizes:
        raise UserError(f"trained_batch_size = {o.trained_batch_size}: must be one of {o.batch_sizes}")


def _apart(m: np.ndarray, descent: np.ndarray) -> dict[str, float]:
    """Distance over ‖M_GD‖, length over ‖M_GD‖, and the angle to M_GD in radians."""
    length, own = np.linalg.norm(descent), np.linalg.norm(m)
    cosine = np.clip(m @ descent / (length * own), -1, 1)
    return {
        "distance": float(np.linalg.norm(m - descent) / length),
        "length": float(own / length),
        "angle": float(np.arccos(cosine)),
    }


def _regression_findings(o: Options, tables: Tables) -> list[Finding]:
    def values(order: str, column: str) -> np.ndarray:
        """``[seeds, batch sizes]``."""
        return np.array(
            [
                [
                    select(tables["optima"], order=order, batch_size=b, seed=s)[0][column]
                    for b in o.batch_sizes
                ]
                for s in range(o.seeds)
            ]
        )

    single, random = values("single shuffle", "distance"), values("reshuffling", "distance")
    angles = values("single shuffle", "angle") / values("reshuffling", "angle")
    lengths = values("reshuffling", "length").mean(0)
    findings = []
    for k, b in enumerate(o.batch_sizes):
        further = single[:, k] - random[:, k]
        name = f"B = {b}: distance from M_GD over ‖M_GD‖, the single shuffle's less reshuffling's"
        note = f"above 0 in {(further > 0).sum()} of {o.seeds} seeds"
        findings.append(in_the_mean("L25a", name, further, 0, np.inf, note))
    for name, own in (("single shuffle", single), ("reshuffling", random)):
        means = own.mean(0)
        found = ", ".join(f"{mean:.3f} at {b}" for mean, b in zip(means, o.batch_sizes, strict=True))
        findings.append(
            Finding(
                "L25a",
                f"{name}: distance from M_GD over ‖M_GD‖, mean over seeds, over B",
                "falls",
                found,
                bool((np.diff(means) < 0).all()),
                "none: an order of means",
            )
        )
    findings.append(
        in_the_mean(
            "L25a",
            "reshuffling: slope of log distance from M_GD over log B, about −1",
            log_slope(np.array(o.batch_sizes), random),
            -1.4,
            -0.6,
        )
    )
    for k, b in enumerate(o.batch_sizes):
        name = f"B = {b}: angle to M_GD of the single shuffle's optimum over reshuffling's"
        findings.append(in_the_mean("L25a", name, angles[:, k], 1.5, np.inf))
    shorter = int((values("reshuffling", "length") < 1).sum())
    total = o.seeds * len(o.batch_sizes)
    found = ", ".join(f"{length:.3f} at {b}" for length, b in zip(lengths, o.batch_sizes, strict=True))
    about = ", ".join(f"{1 - 0.8 / b:.3f}" for b in o.batch_sizes)
    findings.append(
        Finding(
            "L25b",
            "cases in which reshuffling's optimum is shorter than M_GD",
            "most",
            f"{shorter} of {total}",
            shorter > total / 2,
            "none: a count",
            f"mean of ‖M_RR‖/‖M_GD‖ {found}; 1 − 0.8/B is {about}",
        )
    )
    for order in ("single shuffle", "reshuffling"):
        distances = [row["distance"] for row in select(tables["trained"], order=order)]
        name = f"B = {o.trained_batch_size}, {order}: distance of SGD's M from its optimum, over its length"
        findings.append(in_every_seed("L25c", name, distances, 0, 0.02))
    return findings


def draw_regression(tables: Tables) -> dict[str, Figure]:
    """Distance and angle over B, and the length of reshuffling's optimum; seeds as points."""
    rows = tables["optima"]
    figure, axes = panels(1, 3, width=3.7)
    sizes = np.array(distinct(rows, "batch_size"))
    for ax, column in zip(axes, ("distance", "angle", "length"), strict=True):
        for color, marker, order in zip(COLORS, MARKERS, distinct(rows, "order"), strict=False):
            own = select(rows, order=order)
            ax.plot(
                [r["batch_size"] for r in own],
                [r[column] for r in own],
                marker,
                color=color,
                markersize=3.5,
                alpha=0.6,
            )
            means = [np.mean([r[column] for r in select(own, batch_size=b)]) for b in sizes]
            ax.plot(sizes, means, color=color, linewidth=1.2, label=order)
    random = [
        np.mean([r["distance"] for r in select(rows, order="reshuffling", batch_size=b)]) for b in sizes
    ]
    axes[0].plot(sizes, random[0] * sizes[0] / sizes, "k--", linewidth=1, label="∝ 1/B")
    axes[2].plot(sizes, 1 - 0.8 / sizes, "k--", linewidth=1, label="1 − 0.8/B")
    finish(axes[0], "distance from gradient descent's optimum (L25)", "batch size B", "‖M − M_GD‖/‖M_GD‖")
    finish(axes[1], "angle to it", "batch size B", "radians")
    finish(axes[2], "length", "batch size B", "‖M‖/‖M_GD‖", log="x")
    for ax in axes:
        binary_ticks(ax, sizes)
    return {"optima": figure}


def measure_classification(o: Options, workshop: Workshop) -> Evidence:
    """Table ``divergence``: training loss, full-batch risk and ‖M‖ over epochs, by order and seed."""
    _check(o)
    from sgdlit.papers.support.shuffled_batch_norm import classification_sgd, hard_classification, least_risk

    cases = [
        hard_classification(seed, o.hard_examples, o.hard_weights, o.hard_batch_size, 60)
        for seed in range(o.seeds)
    ]
    early = o.hard_epochs // 10
    records = sorted({1, 3, 10, 30, 100, early, 3 * early, 5 * early, 7 * early, o.hard_epochs})
    records = [epoch for epoch in records if epoch <= o.hard_epochs]
    curves = classification_sgd(cases, o.hard_batch_size, o.hard_lr, records, seed=25)
    least = [least_risk(case.inputs, case.labels) for case in cases]
    rows: list[Row] = [
        {
            "order": order,
            "seed": s,
            "epoch": epoch,
            "loss": float(curve.loss[k, s]),
            "risk": float(curve.risk[k, s]),
            "norm": float(curve.norm[k, s]),
            "least_risk": least[s],
        }
        for order, curve in zip(("single shuffle", "reshuffling"), curves, strict=True)
        for s in range(o.seeds)
        for k, epoch in enumerate(records)
    ]
    tries = ", ".join(str(case.tries) for case in cases)
    note = f"L25: draws until examples were hard: {tries}"
    return Evidence({"divergence": rows}, _classification_findings(o, rows, early), [note])


def _classification_findings(o: Options, rows: list[Row], early: int) -> list[Finding]:
    def values(order: str, column: str, epoch: int) -> np.ndarray:
        return np.array([r[column] for r in select(rows, order=order, epoch=epoch)])

    def grown(order: str, column: str) -> np.ndarray:
        return values(order, column, o.hard_epochs) / values(order, column, early)

    over = f"at epoch {o.hard_epochs} over that at {early}"
    single, random = "single shuffle", "reshuffling"
    end, least = values(random, "risk", o.hard_epochs), values(random, "least_risk", o.hard_epochs)
    beyond = end - 1.5 * least
    length = values(single, "norm", o.hard_epochs) / values(random, "norm", o.hard_epochs)
    return [
        in_every_seed("L25d", f"{single}: training loss {over}", grown(single, "loss"), 0, 1),
        in_every_seed("L25d", f"{single}: ‖M‖ {over}", grown(single, "norm"), 1, np.inf),
        in_every_seed("L25d", f"{single}: full-batch risk {over}", grown(single, "risk"), 1, np.inf),
        in_every_seed(
            "L25d",
            f"{random}: ‖M‖ {over}",
            grown(random, "norm"),
            0,
            1.5,
            f"‖M‖ of the single shuffle over reshuffling's: {range_of(length)}",
        ),
        in_every_seed(
            "L25d", f"{random}: full-batch risk less 1.5 times gradient descent's", beyond, -np.inf, 0.2
        ),
    ]


def draw_classification(tables: Tables) -> dict[str, Figure]:
    """Training loss, full-batch risk and length over epochs, a line for each seed."""
    rows = tables["divergence"]
    figure, axes = panels(1, 3, width=3.7)
    titles = ("training loss (L25)", "risk with full-batch statistics", "length")
    for ax, column, title in zip(axes, ("loss", "risk", "norm"), titles, strict=True):
        for color, order in zip(COLORS, distinct(rows, "order"), strict=False):
            for seed in distinct(rows, "seed"):
                own = select(rows, order=order, seed=seed)
                label = order if seed == 0 else None
                ax.plot(
                    [r["epoch"] for r in own], [r[column] for r in own], color=color, linewidth=1, label=label
                )
        if column == "risk":
            mean = float(np.mean([r["least_risk"] for r in rows]))
            ax.axhline(mean, color="black", linestyle="--", linewidth=1, label="least risk, mean over seeds")
        finish(ax, title, "epoch", "‖M‖" if column == "norm" else "mean logistic loss")
    return {"divergence": figure}


_SOURCE = "Wu, Yun & Sra 2023, arXiv 2302.12444"
_REGRESSION = (
    "128 normal examples in 10 dimensions, y = x·w + noise, B = 4, 8, 32, 300 orders, 5 seeds; SGD at B "
    "= 8 for 600 "
    "epochs, its rate falling from 0.01 to 0"
)
_CLASSIFICATION = (
    "48 normal examples in 20 dimensions with alternating labels that full-batch normalisation does not "
    "separate and one "
    "of 60 orders does, B = 4, rate 0.3, 3000 epochs, 5 seeds"
)
_FULL = "linear and ReLU networks of three layers with batch norm on CIFAR-10"


def _claim(identity: str, statement: str, prediction: str, quick: str, other_seeds: str = "") -> Claim:
    return Claim(identity, statement, _SOURCE, "simulated", prediction, quick, _FULL, other_seeds=other_seeds)


PAPER = Paper(
    "wu2023",
    f"{_SOURCE}, On the training instability of shuffling SGD with batch normalization",
    (
        Experiment(
            "regression",
            (
                _claim(
                    "L25a",
                    "the optimum of a single shuffle is further from gradient descent's than that of "
                    "reshuffling",
                    "on the mean, both falling with B, reshuffling's about as 1/B; the angle at least "
                    "1.5 times larger",
                    _REGRESSION,
                    "with 2000 to 2004 the single shuffle is nearer at B = 4, by 0.004 in the mean",
                ),
                _claim(
                    "L25b",
                    "reshuffling's optimum keeps the direction, and is shorter",
                    "shorter in most cases, about 1 − 0.8/B",
                    _REGRESSION,
                ),
                _claim(
                    "L25c",
                    "SGD converges to the optimum of its own normalised data set",
                    "within 0.02",
                    _REGRESSION,
                ),
            ),
            measure_regression,
            draw_regression,
        ),
        Experiment(
            "classification",
            (
                _claim(
                    "L25d",
                    "in classification a single shuffle can diverge where reshuffling stays near "
                    "gradient descent",
                    "its training loss falls while ‖M‖ and the full-batch risk grow from epoch 300 to "
                    "3000; with "
                    "reshuffling ‖M‖ is bounded and the risk within 1.5 times gradient descent's + 0.2; "
                    "every seed",
                    _CLASSIFICATION,
                ),
            ),
            measure_classification,
            draw_classification,
        ),
    ),
    Options,
)
