"""Heo et al. 2020: momentum grows the norm of scale-invariant weights; removing the radial part repairs it.

Here every update is projected. The optimizers of libraries project only where cos(w, g) < δ/√dim, per channel
and then per layer: on exact tangents that always fires, with noise it does not. And the gain is one of steps
that early growth has shrunk: with noisy gradients and a large rate SGDP reaches a fixed target later than
SGDM, since it keeps large noisy steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import all_seeds, interval_of, range_of
from sgdlit.theory.draws import numbered_generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray


@dataclass
class Options:
    """Momentum on weights of which only the direction û = w/‖w‖ matters (F27).

    Symbols (Heo et al. 2020, arXiv 2006.08217): β the momentum, η the learning rate, p the momentum buffer
    p ← βp + g, SGDM w ← w − ηp, SGDP w ← w − η(p − (û·p)û).

    Args:
        seeds: how many.
        growth_steps: of random tangential gradients.
        descent_steps: on the quadratic form.
    """

    seeds: int = 40
    growth_steps: int = 2000
    descent_steps: int = 1500


_D = 50
_MOMENTA = (0.0, 0.5, 0.9)
_LRS = (0.3, 1.0, 3.0, 10.0)
_SIZE, _ETA = 3.0, 0.01
_CURVATURE = np.geomspace(1, 0.01, _D)


def unit(w: Array) -> Array:
    """w/‖w‖ over the last dimension."""
    return w / np.linalg.norm(w, axis=-1, keepdims=True)


def tangential(vector: Array, w: Array) -> Array:
    """The part of some vectors ``[..., d]`` that is orthogonal to w."""
    u = unit(w)
    return vector - (u * vector).sum(-1, keepdims=True) * u


def squared(vector: Array) -> Array:
    return (vector * vector).sum(-1)


def _normal(seeds: int, purpose: int, *shape: int) -> Array:
    """Standard normal numbers of the seeds 0, 1, …, float64 ``[seeds, *shape]``."""
    return np.stack([numbered_generator(seed, purpose).standard_normal(shape) for seed in range(seeds)])


def measure_growth(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``growth``: ‖w‖² over steps, mean over seeds, by momentum and rule; ``ratio``: by β and seed."""
    beta = np.array(_MOMENTA)[:, None]
    w = np.tile(unit(_normal(o.seeds, 1, _D)), (2, len(_MOMENTA), 1, 1))  # SGDM and SGDP
    p, past = np.zeros_like(w), np.zeros((len(_MOMENTA), o.seeds))
    begin, taken, largest = squared(w), np.zeros(w.shape[:-1]), 0.0
    drawn = _normal(o.seeds, 2, o.growth_steps, _D)
    rows: list[Row] = []
    for step in range(o.growth_steps):
        g = _SIZE * unit(tangential(drawn[:, step], w)) / np.linalg.norm(w, axis=-1, keepdims=True)
        p = beta[..., None] * p + g
        moved = np.stack([p[0], tangential(p[1], w[1])])
        before = squared(w[0])
        w = w - _ETA * moved
        squares = squared(moved)
        expected = before + _ETA**2 * (squares[0] + 2 * past)  # F27
        past = beta * (past + squares[0])
        largest = max(largest, float(np.abs(squared(w[0]) / expected - 1).max()))
        taken += _ETA**2 * squares
        if (step + 1) % max(1, o.growth_steps // 40) == 0:
            rows += [
                {
                    "rule": rule,
                    "momentum": b,
                    "step": step + 1,
                    "squared_norm": float(squared(w)[i, j].mean()),
                }
                for i, rule in enumerate(("SGDM", "SGDP"))
                for j, b in enumerate(_MOMENTA)
            ]
    findings = [
        Finding("L39a", "‖w‖² against F27, largest relative deviation of a step", "< 1e-12", f"{largest:.1e}",
                largest < 1e-12, all_seeds(begin[0, 0]))
    ]  # fmt: skip
    ratios = (squared(w) - begin) / taken
    table = [
        {"rule": rule, "momentum": b, "seed": s, "ratio": float(ratios[i, j, s])}
        for i, rule in enumerate(("SGDM", "SGDP"))
        for j, b in enumerate(_MOMENTA)
        for s in range(o.seeds)
    ]
    for i, rule in enumerate(("SGDM", "SGDP")):
        for b, ratio in zip(_MOMENTA, ratios[i], strict=True):
            predicted = (1 + b) / (1 - b) if rule == "SGDM" else 1.0
            holds = bool((np.abs(ratio / predicted - 1) <= 0.01).all())
            findings.append(
                Finding("L39a", f"{rule}, β = {b:g}: growth of ‖w‖² over Σ η²‖step/η‖²",
                        f"{predicted:g} ± 1 % in every seed", range_of(ratio), holds, interval_of(ratio))
            )  # fmt: skip
    return Evidence({"growth": rows, "ratio": table}, findings)


def measure_descent(o: Options, workshop: Workshop) -> Evidence:
    """Table ``descent``: f and ‖w‖ over steps, mean over seeds, by η and rule."""
    lr = np.array(_LRS)[:, None, None]
    w = np.tile(unit(_normal(o.seeds, 3, _D)), (2, len(_LRS), 1, 1))
    p = np.zeros_like(w)
    rows: list[Row] = []
    for step in range(o.descent_steps + 1):
        u = unit(w)
        if step % max(1, o.descent_steps // 30) == 0:
            value = 0.5 * (_CURVATURE * u * u).sum(-1) - 0.5 * _CURVATURE.min()
            rows += [
                {"rule": rule, "lr": own, "step": step, "loss": float(value[i, j].mean()),
                 "norm": float(np.linalg.norm(w[i, j], axis=-1).mean())}
                for i, rule in enumerate(("SGDM", "SGDP"))
                for j, own in enumerate(_LRS)
            ]  # fmt: skip
        p = 0.9 * p + tangential(_CURVATURE * u, w) / np.linalg.norm(w, axis=-1, keepdims=True)
        w = w - lr * np.stack([p[0], tangential(p[1], w[1])])
    u, norms = unit(w), np.linalg.norm(w, axis=-1)
    loss = 0.5 * (_CURVATURE * u * u).sum(-1) - 0.5 * _CURVATURE.min()
    findings = []
    for j, own in enumerate(_LRS):
        ratio, longer = loss[1, j] / loss[0, j], norms[0, j] / norms[1, j]
        findings += [
            Finding("L39b", f"η = {own:g}: f of SGDP over f of SGDM at the end", "< 0.1 in every seed",
                    range_of(ratio), bool((ratio < 0.1).all()), interval_of(ratio)),
            Finding("L39b", f"η = {own:g}: ‖w‖ of SGDM over ‖w‖ of SGDP at the end", "> 1 in every seed",
                    range_of(longer), bool((longer > 1).all()), interval_of(longer)),
        ]  # fmt: skip
    return Evidence({"descent": rows}, findings)


def draw_growth(tables: Tables) -> dict[str, Figure]:
    """‖w‖² over steps, and its growth in units of Σ‖step‖² over β, with (1 + β)/(1 − β)."""
    figure, (ax, right) = panels(1, 2)
    for i, momentum in enumerate(_MOMENTA):
        for rule, line in (("SGDM", "-"), ("SGDP", "--")):
            here = select(tables["growth"], rule=rule, momentum=momentum)
            ax.plot([r["step"] for r in here], [r["squared_norm"] for r in here], line, color=COLORS[i],
                    label=f"{rule}, β = {momentum:g}")  # fmt: skip
    finish(ax, "random tangential gradients", "step", "‖w‖²")
    beta = np.linspace(0, 0.92, 100)
    right.plot(beta, (1 + beta) / (1 - beta), color="black", label="1 + 2β/(1 − β)")
    right.axhline(1, color="black", linestyle="--", linewidth=1, label="1")
    for i, rule in enumerate(("SGDM", "SGDP")):
        here = select(tables["ratio"], rule=rule)
        right.plot([r["momentum"] for r in here], [r["ratio"] for r in here], MARKERS[i], color=COLORS[i],
                   markersize=4, label=f"{rule}, each seed")  # fmt: skip
    finish(right, "growth of ‖w‖² over the steps' squared lengths", "momentum β", "ratio", log="y")
    return {"growth": figure}


def draw_descent(tables: Tables) -> dict[str, Figure]:
    """f and ‖w‖ over steps."""
    figure, axes = panels(1, 2)
    for i, lr in enumerate(distinct(tables["descent"], "lr")):
        for rule, line in (("SGDM", "-"), ("SGDP", "--")):
            here = select(tables["descent"], rule=rule, lr=lr)
            for ax, column in zip(axes, ("loss", "norm"), strict=True):
                ax.plot([r["step"] for r in here], [max(r[column], 1e-17) for r in here], line,
                        color=COLORS[i], marker=MARKERS[i], markevery=6, markersize=3.5,
                        label=f"{rule}, η = {lr:g}")  # fmt: skip
    finish(axes[0], "½ûᵀHû − ½h_min, β = 0.9", "step", "f", log="y")
    finish(axes[1], "norm of the weights", "step", "‖w‖", log="y", legend=False)
    return {"descent": figure}


_SOURCE = "Heo et al. 2020, arXiv 2006.08217"
_FULL = "40 seeds; of networks: ResNet-18 and ResNet-50 on ImageNet, SGDP and AdamP of pytorch_optimizer"

PAPER = Paper(
    "heo2020",
    "Heo et al. 2020, AdamP: slowing down the slowdown for momentum optimizers on scale-invariant weights, "
    "arXiv 2006.08217",
    (
        Experiment(
            "growth",
            (
                Claim(
                    "L39a",
                    "momentum multiplies the growth of ‖w‖² by 1 + 2β/(1 − β); without the radial part of "
                    "the update the factor is 1",
                    f"{_SOURCE}, lemma 2.1 and corollary 2.2 (F27)",
                    "simulated",
                    "F27 to 1e-12; 1, 3 and 19 within 1 % at β = 0, 0.5, 0.9; 1 within 1 % if projected",
                    "random tangential gradients of norm 3/‖w‖ in 50 dimensions, 2000 steps, 10 seeds",
                    _FULL,
                ),
            ),
            measure_growth,
            draw_growth,
        ),
        Experiment(
            "descent",
            (
                Claim(
                    "L39b",
                    "the growth decays the effective rate and so slows descent; the projection repairs it",
                    f"{_SOURCE}, section 3",
                    "simulated",
                    "f of SGDP below a tenth of f of SGDM, and ‖w‖ of SGDM larger, in every seed at every η",
                    "½ûᵀHû in 50 dimensions, β = 0.9, η = 0.3, 1, 3, 10, 1500 steps, 10 seeds",
                    _FULL,
                ),
            ),
            measure_descent,
            draw_descent,
        ),
    ),
    Options,
    {"seeds": 10},
)
