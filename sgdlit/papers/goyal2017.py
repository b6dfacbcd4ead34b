"""Goyal et al. 2017: k times the batch with k times the rate is the same training, with warm-up for longer.

Warm-up must be gradual and per step. At k ≤ 8 it costs a little, here three of eight epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, binary_ticks, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import all_seeds, interval_of, mean_of, range_of
from sgdlit.theory.draws import numbered_generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

Array = np.ndarray


@dataclass
class Options:
    """Plain SGD with batches of 16k images.

    Symbols (Goyal et al. 2017, arXiv 1706.02677): k the factor of the batch size; the rate is 0.04·k
    (``scaled``), rises from 0.04 to it over the first epochs (``warm-up``), or stays 0.04 (``same rate``).

    Args:
        seeds: how many.
        epochs: of 8192 images; each seed has others.
    """

    seeds: int = 20
    epochs: int = 8


_IMAGES, _BATCH, _LR, _WARM = 8192, 16, 0.04, 3
_NOTHING = 2.0  # training loss of a run that has learned nothing; a guess has ln 10 = 2.3
_WIDTHS = (196, 64, 64, 64, 64, 10)
_RULES = {"scaled": (1, 2, 4, 8, 16, 32, 64), "warm-up": (2, 4, 8, 16, 32, 64), "same rate": (4, 8)}


def rates(rule: str, k: int, steps: int, warm: int) -> Array:
    """The rates of a run's steps: float64 ``[steps]``; ``warm`` steps rise linearly from 0.04 to 0.04·k."""
    if rule == "same rate":
        return np.full(steps, _LR)
    if rule == "scaled":
        return np.full(steps, _LR * k)
    rising = np.minimum(np.arange(steps) / warm, 1.0)
    return _LR + (_LR * k - _LR) * rising


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``last``: training loss of the last epoch, by rule, k and seed; ``curves``: by epoch."""
    if workshop.data is None:
        return Evidence(notes=["batches: left out, since there is no folder of data sets (--data)"])
    import torch

    from sgdlit.papers.support.fashion import fashion_14x14

    images, classes = fashion_14x14(workshop.data, "train")
    own = np.stack(
        [numbered_generator(seed, 3).permutation(len(images))[:_IMAGES] for seed in range(o.seeds)]
    )
    chosen = torch.from_numpy(own)
    tables: Tables = {"last": [], "curves": []}
    for done, k in enumerate(_RULES["scaled"]):
        workshop.progress("batch sizes", done, len(_RULES["scaled"]))
        rules = [rule for rule, factors in _RULES.items() if k in factors]
        steps = o.epochs * _IMAGES // (_BATCH * k)
        lrs = np.stack([rates(rule, k, steps, steps * _WARM // o.epochs) for rule in rules])
        losses = _losses(images[chosen], classes[chosen], lrs, _BATCH * k)
        epochs = losses.reshape(len(rules), o.seeds, o.epochs, -1).mean(-1)
        highest = losses[..., 2:].max(-1)
        for i, rule in enumerate(rules):
            tables["last"] += [
                {"rule": rule, "k": k, "seed": s, "loss": float(epochs[i, s, -1]),
                 "highest": float(highest[i, s])}
                for s in range(o.seeds)
            ]  # fmt: skip
            tables["curves"] += [
                {"rule": rule, "k": k, "epoch": e + 1, "loss": float(np.median(epochs[i, :, e]))}
                for e in range(o.epochs)
            ]
    return Evidence(tables, _findings(tables["last"], o.seeds))


def _losses(images: Tensor, classes: Tensor, lrs: Array, batch_size: int) -> Array:
    """Loss of each step's minibatch, infinite from the first that is not finite: ``[rules, seeds, steps]``.

    Args:
        images: of every seed, ``[seeds, N, 196]``.
        classes: ``[seeds, N]``.
        lrs: ``[rules, steps]``.
        batch_size: an epoch visits every image once, reshuffled.
    """
    import torch

    from sgdlit.papers.support import stacked_mlps

    (seeds, examples), (rules, steps) = classes.shape, lrs.shape
    per_epoch = examples // batch_size
    parameters = stacked_mlps.he_normal(_WIDTHS, seeds, rules)
    sizes = torch.from_numpy(lrs).float().repeat_interleave(seeds, 0)
    lines, drawn = (
        torch.arange(seeds).unsqueeze(1),
        [numbered_generator(s, 4, batch_size) for s in range(seeds)],
    )
    found, order = [], torch.empty(0)
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.from_numpy(np.stack([d.permutation(examples) for d in drawn]))
        start = step % per_epoch * batch_size
        index = order[:, start : start + batch_size]
        x, y = images[lines, index].repeat(rules, 1, 1), classes[lines, index].repeat(rules, 1)
        loss, gradient = stacked_mlps.gradient(parameters, x, y)
        for p, g in zip(parameters, gradient, strict=True):
            p.addcmul_(g, sizes[:, step].view((-1,) + (1,) * (p.dim() - 1)), value=-1)
        found.append(loss)
    losses = torch.stack(found, -1).double().numpy()
    over = np.cumsum(~np.isfinite(losses), -1) > 0
    return np.where(over, np.inf, losses).reshape(rules, seeds, steps)


def _last(rows: list[Row], rule: str, k: int) -> Array:
    return np.array([r["loss"] for r in select(rows, rule=rule, k=k)])


def _failed(losses: Array) -> Array:
    """Runs that learn nothing: not finite, or a loss of the last epoch near that of a guess."""
    return ~np.isfinite(losses) | (losses > _NOTHING)


def _findings(rows: list[Row], seeds: int) -> list[Finding]:
    base, found = _last(rows, "scaled", 1), []
    for k in (2, 4):
        ratio = _last(rows, "scaled", k) / base
        found.append(
            Finding("L29a", f"k = {k}, scaled rate: loss of the last epoch over that at k = 1",
                    "1 ± 0.1 in the mean", f"{mean_of(ratio)}, {range_of(ratio)}",
                    bool(abs(ratio.mean() - 1) <= 0.1), interval_of(ratio))
        )  # fmt: skip
    for k in (4, 8):
        ratio = _last(rows, "scaled", k) / _last(rows, "same rate", k)
        found.append(
            Finding("L29a", f"k = {k}: loss at the scaled rate over that at the same rate",
                    "< 1 in every seed", range_of(ratio), bool((ratio < 1).all()), interval_of(ratio),
                    f"below 1 in {int((ratio < 1).sum())} of {seeds} seeds, {mean_of(ratio)}; the gain is "
                    f"{(1 - ratio.mean()) / ratio.std(ddof=1):.1f} standard deviations of a seed")
        )  # fmt: skip
    warm, cold = _last(rows, "warm-up", 16), _last(rows, "scaled", 16)
    better = int((warm < cold).sum())
    found.append(
        Finding("L29b", "k = 16: seeds in which warm-up ends below none", f"≥ {_part(seeds, 8)}", str(better),
                better >= _part(seeds, 8), all_seeds(warm),
                f"median loss {np.median(warm):.3f} with warm-up, {np.median(cold):.3f} without; the "
                f"standard error of the count is {math.sqrt(better * (seeds - better) / seeds):.1f}")
    )  # fmt: skip
    fails = {
        (rule, k): int(_failed(_last(rows, rule, k)).sum())
        for rule in ("scaled", "warm-up")
        for k in (32, 64)
    }
    survivors = _last(rows, "warm-up", 32)
    survivors = survivors[~_failed(survivors)]
    factor = range_of(survivors / base.mean()) if len(survivors) else "none survives"
    why = all_seeds(base)
    return [
        *found,
        Finding("L29b", "k = 32 without warm-up: runs that fail", f"≥ {_part(seeds, 8)}",
                str(fails["scaled", 32]), fails["scaled", 32] >= _part(seeds, 8), why),
        Finding("L29b", "k = 32 with warm-up: runs that survive", f"≥ {_part(seeds, 2)}",
                str(len(survivors)), len(survivors) >= _part(seeds, 2), why,
                f"their loss over that at k = 1: {factor}"),
        Finding("L29b", "k = 64: runs that survive, without and with warm-up", "0 and 0",
                f"{seeds - fails['scaled', 64]} and {seeds - fails['warm-up', 64]}",
                fails["scaled", 64] == fails["warm-up", 64] == seeds, why),
    ]  # fmt: skip


def _part(seeds: int, of_ten: int) -> int:
    """So many of ten seeds, for another number of seeds."""
    return math.ceil(seeds * of_ten / 10)


def draw(tables: Tables) -> dict[str, Figure]:
    """Loss over epochs at scaled rates, and loss of the last epoch over k."""
    if "last" not in tables:
        return {}
    figure, (left, right) = panels(1, 2)
    for color, k in zip(COLORS, (1, 2, 4, 8, 16), strict=False):
        here = select(tables["curves"], rule="scaled", k=k)
        left.plot([r["epoch"] for r in here], [r["loss"] for r in here], color=color, label=f"k = {k}")
    finish(left, "scaled rate 0.04k, median over seeds", "epoch", "training loss", log="y")
    for color, (rule, factors) in zip(COLORS, _RULES.items(), strict=False):
        for i, k in enumerate(factors):
            losses = _last(tables["last"], rule, k)
            finite = losses[np.isfinite(losses)]
            shift = {"scaled": 0.94, "warm-up": 1.06, "same rate": 1.0}[rule]
            right.plot(np.full(len(finite), k * shift), finite, "o", color=color, markersize=3.5,
                       label=rule if i == 0 else None)  # fmt: skip
    right.axhline(math.log(10), color="black", linewidth=1, linestyle=":", label="a guess, ln 10")
    finish(right, "each seed; runs that overflow are left out", "k = B/16", "training loss, last epoch")
    right.legend(fontsize=7.5, loc="upper left")
    binary_ticks(right, _RULES["scaled"])
    return {"batches": figure}


_SOURCE = "Goyal et al. 2017, arXiv 1706.02677, section 2"
_QUICK = "an MLP 196–64×4–10 on 8192 images of Fashion-MNIST 14×14, B = 16k, 8 epochs, 10 seeds"
_FULL = "20 seeds; the paper's: ResNet-50 on ImageNet, η = 0.1·kn/256, 5 epochs of warm-up, B = 8192"

PAPER = Paper(
    "goyal2017",
    "Goyal et al. 2017, Accurate, large minibatch SGD: training ImageNet in 1 hour, arXiv 1706.02677",
    (
        Experiment(
            "batches",
            (
                Claim(
                    "L29a",
                    "k times the batch with k times the rate gives the same curve per epoch up to a limit; "
                    "an unscaled rate falls behind",
                    _SOURCE,
                    "trained",
                    "loss of the last epoch within 10 % at k = 2 and 4; below that of the same rate in every "
                    "seed at k = 4 and 8",
                    _QUICK,
                    _FULL,
                    "list/large_batches.yaml",
                    shows=False,
                ),
                Claim(
                    "L29b",
                    "gradual warm-up moves that limit further out",
                    _SOURCE,
                    "trained",
                    "k = 16: better with warm-up in 8 of 10 seeds; k = 32: 8 of 10 fail without, 2 of 10 or "
                    "more survive with; k = 64 fails either way",
                    _QUICK,
                    _FULL,
                    "list/large_batches.yaml",
                    shows=False,
                ),
            ),
            measure,
            draw,
            needs_data=True,
        ),
    ),
    Options,
    {"seeds": 10},
)
