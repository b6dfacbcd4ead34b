"""Shevchenko & Mondelli 2019: wide networks lose little by dropout, and so their minima are connected
(L32)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import band, in_every_seed, in_most_seeds, in_the_mean, inside
from sgdlit.papers.support.slopes import log_slopes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from sgdlit.theory.connecting_path import Neurons

_D, _TEACHERS, _BATCH, _RATE, _TEST = 10, 5, 32, 0.04, 2000
_SCALE, _BIAS_SCALE, _KEPT, _POINTS = 1.5, 0.5, 50, 6
_TOGETHER = 200  # test examples at a time


@dataclass
class Options:
    """Two-layer ReLU networks in the mean-field scaling, trained from a stream (L32).

    Symbols (Shevchenko & Mondelli, arXiv 1912.10095; F23): f = (1/N) Σ a·relu(w·x + b), N neurons; L(A) the
    test loss of a solution A, and of its first half, rescaled; the barrier of a path is its highest loss
    above that of the worse end.

    Args:
        widths: N.
        seeds: of target, streams and starts, 0, 1, 2, …; each has two solutions.
        steps: of SGD.
    """

    widths: list[int] = field(default_factory=lambda: [100, 400, 1600, 6400])
    seeds: int = 5
    steps: int = 2000


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``networks``: losses and barriers by width and seed; ``paths``: losses along them, of seed 0."""
    if len(o.widths) < 3 or sorted(o.widths) != o.widths or any(n % 2 or n < _KEPT for n in o.widths):
        raise UserError(
            f"widths = {o.widths}: must be three or more that rise, each even and {_KEPT} or more"
        )
    evidence = Evidence({"networks": [], "paths": []})
    for k, width in enumerate(o.widths):
        neurons = train(width, o.seeds, o.steps)
        rows, shown = _evaluated(width, neurons, o.seeds)
        evidence.tables["networks"] += rows
        evidence.tables["paths"] += shown
        workshop.progress("widths", k + 1, len(o.widths))
    evidence.findings = _judge(o, evidence.tables["networks"])
    return evidence


def train(width: int, seeds: int, steps: int) -> Neurons:
    """Two solutions of each seed at once, float32 ``[seeds, 2, N, …]``; rate 0.04·N, linearly to 0, B =
    32."""
    import torch

    from sgdlit.theory.connecting_path import Neurons
    from sgdlit.theory.draws import generator

    draws = [
        [generator(seed, f"mean-field solution {k}, N = {width}") for k in range(2)] for seed in range(seeds)
    ]

    def drawn(*shape: int) -> Tensor:
        return torch.from_numpy(
            np.stack([[draw.standard_normal(shape, dtype=np.float32) for draw in pair] for pair in draws])
        )

    w = _SCALE / math.sqrt(_D) * drawn(width, _D)
    b, a = _BIAS_SCALE * drawn(width), _SCALE * drawn(width)
    directions = _directions(seeds).float()
    for step in range(steps):
        if step % 100 == 0:
            inputs = drawn(100, _BATCH, _D)
            targets = target(inputs.flatten(2, 3), directions).view(seeds, 2, 100, _BATCH)
        x, y = inputs[:, :, step % 100], targets[:, :, step % 100]
        rate = _RATE * (1 - step / steps)
        units = (x @ w.mT).add_(b.unsqueeze(-2)).relu_()
        pull = ((units @ a.unsqueeze(-1))[..., 0] / width - y) / _BATCH
        of_a = (pull.unsqueeze(-2) @ units)[..., 0, :]
        active = torch.sign(units, out=units).mul_(pull.unsqueeze(-1))  # 1 or 0, times the residual
        w.sub_((active.mT @ x).mul_(rate * a.unsqueeze(-1)))
        b.sub_(active.sum(-2).mul_(rate * a))
        a.sub_(of_a, alpha=rate)
    return Neurons(w, b, a)


def _directions(seeds: int) -> Tensor:
    """v, float64 ``[S, 5, d]``."""
    import torch

    from sgdlit.theory.draws import normal_matrix

    return torch.from_numpy(
        np.stack([normal_matrix(s, "mean-field target", _TEACHERS, _D) for s in range(seeds)])
    )


def target(x: Tensor, directions: Tensor) -> Tensor:
    """Σ_v tanh(2 v·x/√d) of inputs ``[S, k, n, d]`` with v ``[S, 5, d]``: ``[S, k, n]``."""
    import torch

    return torch.tanh(2 / math.sqrt(_D) * (x @ directions.unsqueeze(1).mT)).sum(-1)


def _evaluated(width: int, neurons: Neurons, seeds: int) -> tuple[list[Row], list[Row]]:
    """Losses and barriers of every seed in float64, and losses along the paths of seed 0."""
    import torch

    from sgdlit.theory.connecting_path import Neurons, along, corners
    from sgdlit.theory.draws import normal_matrix

    whole = Neurons(*(p.double() for p in neurons))
    x = torch.from_numpy(np.stack([normal_matrix(s, "mean-field test", _TEST, _D) for s in range(seeds)]))
    y = target(x.unsqueeze(1), _directions(seeds))[:, 0]

    def loss(some: Neurons) -> np.ndarray:
        """½ mean (f − y)², ``[S]``."""
        outputs = torch.cat([some.output(part) for part in x.split(_TOGETHER, 1)], 1)
        return (0.5 * (outputs - y).square().mean(-1)).numpy()

    start, end = (Neurons(*(p[:, k] for p in whole)) for k in range(2))
    ends = np.stack([loss(start), loss(end)])
    half, kept = (np.stack([loss(n.first(count)) for n in (start, end)]) for count in (width // 2, _KEPT))
    path = np.stack([loss(n) for n in along(corners(start, end), _POINTS)])
    straight = np.stack([loss(n) for n in along([start, end], 7 * _POINTS)])
    highest, worse = np.concatenate([ends, half]).max(0), ends.max(0)
    rows: list[Row] = [
        {"N": width, "seed": s, "loss": float(ends[:, s].mean()), "half_loss": float(half[:, s].mean()),
         "drop_half": float((half - ends)[:, s].mean()), "keep_50": float((kept - ends)[:, s].mean()),
         "path_less_predicted": float(path[:, s].max() - highest[s]),
         "barrier": float(path[:, s].max() - worse[s]),
         "straight_barrier": float(straight[:, s].max() - worse[s])}
        for s in range(seeds)
    ]  # fmt: skip
    shown: list[Row] = [
        {"N": width, "along": k / (7 * _POINTS), "path": float(p), "straight": float(q)}
        for k, (p, q) in enumerate(zip(path[:, 0], straight[:, 0], strict=True))
    ]
    return rows, shown


def _judge(o: Options, rows: list[Row]) -> list[Finding]:
    def column(name: str, width: int) -> np.ndarray:
        return np.array([r[name] for r in select(rows, N=width)])

    first, middle, last = o.widths[0], o.widths[1], o.widths[2]
    drop = np.array([column("drop_half", n) for n in o.widths]).T
    slopes = log_slopes(np.array(o.widths), drop).each
    kept = column("keep_50", last).mean() / column("keep_50", middle).mean()
    falls = column("drop_half", middle).mean() / column("drop_half", last).mean()
    barrier = column("barrier", first).mean() / column("barrier", last).mean()
    straight = column("straight_barrier", last).mean() / column("straight_barrier", first).mean()
    spread = "none: of means over seeds"
    below = column("barrier", last) < column("straight_barrier", last)
    apart = [abs(r["path_less_predicted"]) for r in rows]
    return [
        in_the_mean("L32a", "slope of log loss gained by dropping half over log N", slopes, -1.1, -0.7),
        Finding("L32a", f"loss gained by keeping {_KEPT}: N = {last} over N = {middle}, means", "0.6 to 1.4",
                f"{kept:.3f}", inside(float(kept), 0.6, 1.4), spread),
        Finding("L32a", f"loss gained by dropping half: N = {middle} over N = {last}, means", band(low=2),
                f"{falls:.2f}", inside(float(falls), low=2), spread),
        in_every_seed("L32b", "|highest loss on the path less that of A, C and their halves|", apart,
                      high=1e-5),
        Finding("L32b", f"barrier of the path: N = {first} over N = {last}, means", band(low=2.5),
                f"{barrier:.2f}", inside(float(barrier), low=2.5), spread),
        Finding("L32b", f"barrier of the straight line: N = {last} over N = {first}, means", "0.6 to 1.4",
                f"{straight:.3f}", inside(float(straight), 0.6, 1.4), spread),
        in_most_seeds("L32b", f"N = {last}: barrier of the path below that of the straight line", below,
                -(-4 * o.seeds // 5)),
    ]  # fmt: skip


def draw(tables: Tables) -> dict[str, Figure]:
    """What dropping costs over N, losses along the paths, barriers over N."""
    figure, axes = panels(1, 3, width=3.9)
    rows, paths = tables["networks"], tables["paths"]
    widths = np.array(sorted({r["N"] for r in rows}))
    for ax, columns, title, y in (
        (axes[0], (("drop_half", "half dropped"), ("keep_50", "50 kept")), "dropout (L32a)", "loss gained"),
        (axes[2], (("barrier", "path"), ("straight_barrier", "straight line")), "barriers (L32b)", "barrier"),
    ):
        for color, (name, label) in zip(COLORS, columns, strict=False):
            ax.plot([r["N"] for r in rows], [r[name] for r in rows], ".", color=color, alpha=0.5)
            mean = np.array([np.mean([r[name] for r in select(rows, N=n)]) for n in widths])
            ax.plot(widths, mean, "o-", color=color, markersize=4, label=f"{label}, mean")
            if name == "drop_half":
                ax.plot(widths, mean[0] * widths[0] / widths, "k--", linewidth=1, label="∝ 1/N")
        finish(ax, title, "neurons N", y)
    for i, width in enumerate(widths):
        own = select(paths, N=width)
        x = [r["along"] for r in own]
        axes[1].plot(x, [r["path"] for r in own], color=COLORS[i], label=f"N = {width}: path")
        axes[1].plot(x, [r["straight"] for r in own], ":", color=COLORS[i], label=f"N = {width}: straight")
    axes[1].set_ylim(top=10 * max(r["path"] for r in paths))
    finish(axes[1], "between two solutions, seed 0", "part of the way", "test loss", log="y")
    return {"connectivity": figure}


_SOURCE = "Shevchenko & Mondelli 2019, arXiv 1912.10095"
_QUICK = (
    "d = 10, N = 100, 400, 1600; w ~ N(0, 1.5²/d), b ~ N(0, 0.5²), a ~ N(0, 1.5²); target Σ₅ tanh(2v·x/√d); "
    "B = 32 from a "
    "stream, rate 0.04·N linearly to 0, 2000 steps, 2000 test examples; two solutions for each of 5 seeds"
)
_FULL = "the same with N = 6400. The paper: networks with two and more layers on MNIST and CIFAR-10"
_CONFIG = "list/dropout_stability.yaml"

PAPER = Paper(
    "shevchenko2019",
    "Shevchenko & Mondelli 2019, Landscape connectivity and dropout stability of SGD solutions for "
    "over-parameterized neural networks, arXiv 1912.10095",
    (
        Experiment(
            "connectivity",
            (
                Claim(
                    "L32a",
                    "the wider, the less a network loses by dropping half of its neurons; what it loses by "
                    "keeping k "
                    "does not depend on its width",
                    f"{_SOURCE}, theorem 1",
                    "trained",
                    "slope of the loss gained over N −0.9 ± 0.2; keep-50 at N = 1600 within 40 % of N = "
                    "400, where "
                    "drop-half falls by more than 2",
                    _QUICK,
                    _FULL,
                    _CONFIG,
                    other_seeds="the mean slope is −1.26 with 1000 to 1004, and −1.11 with 2000 to 2004",
                ),
                Claim(
                    "L32b",
                    "two solutions are joined by a piecewise-linear path whose barrier vanishes with width; "
                    "that of "
                    "the straight line does not",
                    f"{_SOURCE}, theorem 1 and appendix; F23",
                    "trained",
                    "path's maximum that of A, C and their halves to 1e-5; mean barrier falls by more than "
                    "2.5 from "
                    "N = 100 to 1600, the straight line's stays within 40 %; lower in 4 of 5 seeds at N = "
                    "1600",
                    _QUICK,
                    _FULL,
                    _CONFIG,
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
    {"widths": [100, 400, 1600]},
)
