"""Ding et al. 2019, global sparse momentum: train so that pruning at the end costs nothing.

The passive weights shrink by 1 − lr·w/(1 − β) a step: where that rate times the number of steps is below
about 4, they are not small at the end, and pruning is not free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import all_seeds, interval_of, mean_of, range_of
from sgdlit.theory.draws import numbered_generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray


@dataclass
class Options:
    """Z ← βZ + wθ + M ⊙ g, θ ← θ − lr·Z, M = 1 at the Q weights of largest |θ·g| (F20).

    Symbols (Ding et al. 2019, arXiv 1909.12778): Q the number of weights that are to remain, β = 0.98 the
    momentum, w = 0.01 the weight decay, lr = 0.2(1 − β).

    Args:
        seeds: how many.
        images: training images; each seed has others.
        steps: updates.
        keep: Q as a part of all weights.
    """

    seeds: int = 10
    images: int = 20_000
    steps: int = 5000
    keep: float = 0.05


_WIDTHS, _BATCH, _BETA, _DECAY, _LR = (196, 100, 50, 10), 64, 0.98, 0.01, 0.2 * 0.02
_RULES = ("GSM", "dense")


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``pruning``: accuracies and the norm of what is pruned, by rule and seed; ``kept``: by layer."""
    if workshop.data is None:
        return Evidence(notes=["pruning: left out, since there is no folder of data sets (--data)"])
    import torch

    from sgdlit.algorithms.largest import largest
    from sgdlit.algorithms.rules.sparse_momentum import GSM, GSMRule
    from sgdlit.papers.support import stacked_mlps
    from sgdlit.papers.support.fashion import fashion_14x14

    images, classes = fashion_14x14(workshop.data, "train")
    test = fashion_14x14(workshop.data, "test")
    own = np.stack(
        [numbered_generator(seed, 3).permutation(len(images))[: o.images] for seed in range(o.seeds)]
    )
    chosen, tables = torch.from_numpy(own), Tables(pruning=[], kept=[])
    for name, keep in zip(_RULES, (o.keep, 1.0), strict=True):
        group = GSM([torch.zeros(1)], _LR, _BETA, _DECAY, keep).param_groups[0]
        rule = GSMRule([group])
        given = {n: torch.full((o.seeds,), v) for n, v in rule.hyperparameters(group, 0).items()}
        parameters = stacked_mlps.he_normal(_WIDTHS, o.seeds)
        state = {"momentum_buffer": [torch.zeros_like(p) for p in parameters]}
        seen = stacked_mlps.with_replacement(o.seeds, 1, o.images, _BATCH, o.steps)
        for step, index in enumerate(seen):
            if step % 100 == 0:
                workshop.progress(f"steps, {name}", step, o.steps)
            index = chosen.gather(1, index)
            _, gradient = stacked_mlps.gradient(parameters, images[index], classes[index])
            rule.update(parameters, gradient, state, given)
        before = 1 - stacked_mlps.errors(parameters, *test)
        weights = torch.cat([p.flatten(1) for p in parameters[::2]], 1)
        mask = largest(weights.abs(), round(o.keep * weights.shape[1])).float()
        pruned_norm = (weights * (1 - mask)).norm(dim=1) / weights.norm(dim=1)
        layers = mask.split([p[0].numel() for p in parameters[::2]], 1)
        for p, kept in zip(parameters[::2], layers, strict=True):
            p.mul_(kept.view(p.shape))
        after = 1 - stacked_mlps.errors(parameters, *test)
        tables["pruning"] += [
            {"rule": name, "seed": s, "before": float(before[s]), "after": float(after[s]),
             "pruned_norm": float(pruned_norm[s])}
            for s in range(o.seeds)
        ]  # fmt: skip
        tables["kept"] += [
            {"rule": name, "layer": k + 1, "seed": s, "share": float(kept[s].mean())}
            for k, kept in enumerate(layers)
            for s in range(o.seeds)
        ]
    return Evidence(tables, _findings(tables))


def _column(rows: list[Row], rule: str, name: str) -> Array:
    return np.array([r[name] for r in select(rows, rule=rule)])


def _findings(tables: Tables) -> list[Finding]:
    rows = tables["pruning"]
    (gsm, dense), (gsm_norm, dense_norm) = (
        [_column(rows, rule, "before") - _column(rows, rule, "after") for rule in _RULES],
        [_column(rows, rule, "pruned_norm") for rule in _RULES],
    )
    apart = _column(rows, "dense", "before") - _column(rows, "GSM", "after")
    shares = np.array(
        [[r["share"] for r in select(tables["kept"], rule="GSM", layer=layer)] for layer in (1, 2, 3)]
    )
    rises = [bool(one < two < three) for one, two, three in shares.T]
    found = ", ".join(f"{v:.3f}" for v in shares.mean(1))
    return [
        Finding("L17", "GSM: accuracy lost by pruning", "< 0.01 in the mean, < 0.02 in every seed",
                f"{mean_of(gsm)}, {range_of(gsm)}", bool(gsm.mean() < 0.01 and (gsm < 0.02).all()),
                interval_of(gsm)),
        Finding("L17", "dense: accuracy lost by pruning", "> 0.2 in the mean, > 0.05 in every seed",
                f"{mean_of(dense)}, {range_of(dense)}", bool(dense.mean() > 0.2 and (dense > 0.05).all()),
                interval_of(dense)),
        Finding("L17", "accuracy of the dense network − that of GSM's after pruning", "< 0.04 in the mean",
                mean_of(apart), bool(apart.mean() < 0.04), interval_of(apart)),
        Finding("L17", "GSM: share of the weights kept in layers 1, 2, 3", "rises in every seed", found,
                all(rises), all_seeds(rises)),
        Finding("L17", "GSM: norm of the pruned weights over all", "< 0.1 in every seed", range_of(gsm_norm),
                bool((gsm_norm < 0.1).all()), interval_of(gsm_norm)),
        Finding("L17", "dense: norm of the pruned weights over all", "> 0.4 in every seed",
                range_of(dense_norm), bool((dense_norm > 0.4).all()), interval_of(dense_norm)),
    ]  # fmt: skip


def draw(tables: Tables) -> dict[str, Figure]:
    """Accuracy before and after pruning, and what is kept of each layer."""
    if "pruning" not in tables:
        return {}
    figure, (left, right) = panels(1, 2)
    for i, rule in enumerate(_RULES):
        for row in select(tables["pruning"], rule=rule):
            left.plot([0, 1], [row["before"], row["after"]], "o-", color=COLORS[i], linewidth=1, markersize=4,
                      label=rule if row["seed"] == 0 else None)  # fmt: skip
        layers = [select(tables["kept"], rule=rule, layer=k) for k in (1, 2, 3)]
        means = [float(np.mean([r["share"] for r in rows])) for rows in layers]
        right.plot([1, 2, 3], means, "o-", color=COLORS[i], label=rule)
    left.set_xticks([0, 1], ["before", "after pruning to Q"])
    right.set_xticks([1, 2, 3])
    finish(left, "MLP on Fashion-MNIST 14×14, each seed", "", "test accuracy", log="")
    finish(right, "weights that remain, mean over seeds", "layer", "share kept", log="y")
    return {"pruning": figure}


PAPER = Paper(
    "ding2019",
    "Ding et al. 2019, Global sparse momentum SGD for pruning very deep neural networks, arXiv 1909.12778",
    (
        Experiment(
            "pruning",
            (
                Claim(
                    "L17",
                    "where only the Q weights of largest |θ·∂L/∂θ| receive their gradient and all decay, "
                    "pruning to Q at the end is free",
                    "Ding et al. 2019, arXiv 1909.12778, section 3 (F20)",
                    "trained",
                    "GSM loses less than 0.01 by pruning in the mean, the dense network more than 0.2; GSM "
                    "ends within 0.04 of it; the share kept rises with the layer; pruned norm < 0.1, > 0.4",
                    "an MLP 196–100–50–10, 10 000 images of Fashion-MNIST 14×14, Q = 5 %, 2500 steps",
                    "20 000 images, 5000 steps; the paper's: LeNets on MNIST, ResNet-56 on CIFAR-10",
                    "list/gsm.yaml",
                ),
            ),
            measure,
            draw,
            needs_data=True,
        ),
    ),
    Options,
    {"seeds": 5, "images": 10_000, "steps": 2500},
)
