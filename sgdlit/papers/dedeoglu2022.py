"""Dedeoglu et al. 2022, Adaptive-k: under label noise, learn only from examples below a running threshold.

Pitfalls: the threshold is a ratio of two running averages without bias correction and without a unit,
compared with a loss in nats, so that another scale of the loss keeps other examples; and most of what is
gained here stopping early would gain too, with the epoch chosen on the test set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.fashion import fashion_14x14
from sgdlit.papers.support.seed_findings import in_the_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Options:
    """A ReLU network 196–h–10 on images of Fashion-MNIST in 14×14 pixels, with labels y → y + 2 mod 10.

    Symbols (Dedeoglu, Kesgin & Amasyali, arXiv 2203.14165; F26): an example is kept if ℓ_i ≤ m/√v.

    Args:
        examples: of each seed, others for each.
        hidden: h.
        share: of the labels that are wrong.
        batch_size: B.
        lr: learning rate, a fifth of it from epoch 20 on.
        epochs: of each run.
        plain_epochs: in which every example is kept.
        seeds: 0, 1, ..., this many.
    """

    examples: int = 2000
    hidden: int = 100
    share: float = 0.4
    batch_size: int = 10
    lr: float = 0.05
    epochs: int = 40
    plain_epochs: int = 10
    seeds: int = 10


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``accuracy``: of each method on the test set; ``kept``: shares kept; both over epochs."""
    if o.seeds < 2 or not 0 <= o.plain_epochs < o.epochs:
        raise UserError(
            f"seeds = {o.seeds}, plain_epochs = {o.plain_epochs}: at least 2, and below the epochs"
        )
    if workshop.data is None:
        note = (
            "Adaptive-k: left out, since it trains on Fashion-MNIST and no folder of data was found (--data)"
        )
        return Evidence(notes=[note])
    from sgdlit.papers.support.noisy_labels import METHODS, Setting, train

    setting = Setting(
        o.examples, o.hidden, o.share, o.batch_size, o.lr, 20, o.epochs, o.plain_epochs, o.seeds
    )
    seen, tested = fashion_14x14(workshop.data, "train"), fashion_14x14(workshop.data, "test")
    tables: Tables = {"accuracy": [], "kept": []}
    for epoch, found in enumerate(train(setting, *seen, *tested, every=5), 1):
        tables["accuracy"] += [
            {"method": method, "seed": seed, "epoch": epoch, "accuracy": value}
            for method, own in zip(METHODS, found.accuracy.tolist(), strict=True)
            for seed, value in enumerate(own)
            if value == value
        ]
        if epoch > o.plain_epochs:
            tables["kept"] += [
                {"seed": seed, "epoch": epoch, "clean": kept[0] / seen[0], "wrong": kept[1] / seen[1]}
                for seed, (kept, seen) in enumerate(
                    zip(found.kept.tolist(), found.seen.tolist(), strict=True)
                )
            ]
        workshop.progress("epochs", epoch, o.epochs)
    return Evidence(tables, _findings(o, tables))


def _findings(o: Options, tables: Tables) -> list[Finding]:
    def last(method: str) -> np.ndarray:
        return np.array([r["accuracy"] for r in select(tables["accuracy"], method=method, epoch=o.epochs)])

    plain, adaptive, oracle = (last(method) for method in ("SGD", "Adaptive-k", "oracle"))
    between = int(((plain < adaptive) & (adaptive < oracle)).sum())
    least = int(np.ceil(0.9 * o.seeds))
    best = np.array(
        [max(r["accuracy"] for r in select(tables["accuracy"], method="SGD", seed=s)) for s in range(o.seeds)]
    )
    kept = {
        name: np.array([np.mean([r[name] for r in select(tables["kept"], seed=s)]) for s in range(o.seeds)])
        for name in ("clean", "wrong")
    }
    means = f"means {plain.mean():.3f}, {adaptive.mean():.3f}, {oracle.mean():.3f}"
    return [
        Finding("L38a", "seeds in which SGD < Adaptive-k < oracle in test accuracy after the last epoch",
                f"at least {least} of {o.seeds}", f"{between} of {o.seeds}; {means}", between >= least,
                "none: a count of seeds"),
        in_the_mean("L38a", "share of the gap between SGD and oracle that Adaptive-k closes",
                    (adaptive - plain) / (oracle - plain), 0.2, 0.8),
        in_the_mean("L38b", "share of the clean examples that is kept", kept["clean"], 0.7, 1),
        in_the_mean("L38b", "share of the wrongly labelled examples that is kept", kept["wrong"], 0, 0.6),
        in_the_mean("L38c", "test accuracy: Adaptive-k after the last epoch minus SGD after its best, "
        "chosen on the "
                    "test set", adaptive - best, -1, 0.1),
    ]  # fmt: skip


def draw(tables: Tables) -> dict[str, Figure]:
    """Test accuracy over epochs by method; and the shares of clean and wrong examples that are kept."""
    if not tables:
        return {}
    figure, (left, right) = panels(1, 2)
    for color, method in zip(COLORS, distinct(tables["accuracy"], "method"), strict=False):
        epochs, mean, low, high = _band(select(tables["accuracy"], method=method), "accuracy")
        left.plot(epochs, mean, color=color, marker="o", markersize=2, linewidth=1, label=method)
        left.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
    finish(left, "40 % wrong labels (L38); bands: all seeds", "epoch", "test accuracy", log="")
    for color, name in zip(COLORS[2:], ("clean", "wrong"), strict=False):
        epochs, mean, low, high = _band(tables["kept"], name)
        right.plot(epochs, mean, color=color, label=f"{name} labels")
        right.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
    right.plot([], [], color="black", linestyle=":", linewidth=1, label="least, most predicted")
    for color, level in zip(COLORS[2:], (0.7, 0.6), strict=False):
        right.axhline(level, color=color, linestyle=":", linewidth=1)
    right.set_ylim(0, 1)
    finish(right, "what Adaptive-k keeps", "epoch", "share of the examples", log="")
    return {"adaptive_k": figure}


def _band(rows: list[Row], column: str) -> tuple[list[int], list[float], list[float], list[float]]:
    epochs = distinct(rows, "epoch")
    values = [[r[column] for r in select(rows, epoch=epoch)] for epoch in epochs]
    return epochs, [float(np.mean(v)) for v in values], list(map(min, values)), list(map(max, values))


_SOURCE = "Dedeoglu, Kesgin & Amasyali 2022, arXiv 2203.14165"
_QUICK = (
    "a ReLU network 196–100–10 on 2000 images of Fashion-MNIST in 14×14 pixels, 40 % of the labels y → "
    "y + 2 mod 10, "
    "B = 10, rate 0.05 and 0.01 from epoch 20 on, 40 epochs, the first 10 plain, 10 seeds"
)
_FULL = "5000 images in 28×28 pixels, 80 epochs (configs/list/adaptive_k.yaml); CIFAR-10"


def _claim(identity: str, statement: str, prediction: str) -> Claim:
    config = "list/adaptive_k.yaml"
    return Claim(identity, statement, _SOURCE, "trained", prediction, _QUICK, _FULL, config)


PAPER = Paper(
    "dedeoglu2022",
    f"{_SOURCE}, A robust optimization method for label noisy datasets based on adaptive threshold: "
    f"Adaptive-k",
    (
        Experiment(
            "noise",
            (
                _claim(
                    "L38a",
                    "under label noise, learning only from examples below a running threshold beats "
                    "SGD, and comes nearer to "
                    "an oracle that leaves out the wrong ones",
                    "SGD < Adaptive-k < oracle in 9 of 10 seeds; 0.2 to 0.8 of the gap closed on the mean",
                ),
                _claim(
                    "L38b",
                    "the threshold keeps the clean examples rather than the wrong ones",
                    "more than 0.7 of the clean, less than 0.6 of the wrong",
                ),
                _claim(
                    "L38c",
                    "stopping SGD early, at the best epoch, does most of it",
                    "Adaptive-k is at most 0.1 above SGD's best epoch",
                ),
            ),
            measure,
            draw,
            needs_data=True,
        ),
    ),
    Options,
)
