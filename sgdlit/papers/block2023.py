"""Block et al. 2023: noise of SGD that the loss does not show makes closed loops oscillate; averaging helps
(L10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray

_EXPERT, _NOISE, _BATCH, _DECAY = -0.1, 0.5, 8, 0.99
_PLANT, _STABLE, _HORIZON = 1.05, 0.5, 60
_FROM, _EVERY = 1000, 2
_RATES = (0.1, 0.01)


@dataclass
class Options:
    """A policy kx that clones the expert k*x + 0.5·noise, in the loop x ← (a + k)x (L10).

    Symbols (Block et al., arXiv 2310.11428): k* = −0.1, a = 1.05 the plant (0.5 where it is stable by
    itself), the cost Σ_{t<60} |a + k|ᵗ of a rollout, EMA the exponential moving average of k with decay 0.99.

    Args:
        seeds: 0, 1, 2, ….
        steps: of SGD.
    """

    seeds: int = 20
    steps: int = 4000


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``runs``: spread of costs and losses of each; ``curves``: both over steps, of seed 0."""
    if o.steps < 2 * _FROM:
        raise UserError(f"steps = {o.steps}: must be at least {2 * _FROM}")
    evidence = Evidence({"runs": [], "curves": []})
    at = np.arange(_FROM, o.steps + 1, _EVERY)
    for k, lr in enumerate(_RATES):
        raw, average = clone(o.seeds, lr, o.steps)
        for name, policies in (("raw", raw), ("EMA", average)):
            late = policies[:, at]
            loss = (late - _EXPERT) ** 2 / 2 + _NOISE**2 / 2
            costs = {plant: rollout_cost(plant + late) for plant in (_PLANT, _STABLE)}
            evidence.tables["runs"] += [
                {"lr": lr, "policy": name, "seed": seed, "largest_cost": float(costs[_PLANT][seed].max()),
                 "relative_std_cost": _relative_std(costs[_PLANT][seed]),
                 "relative_std_stable": _relative_std(costs[_STABLE][seed]),
                 "loss": float(loss[seed].mean()), "relative_std_loss": _relative_std(loss[seed])}
                for seed in range(o.seeds)
            ]  # fmt: skip
            evidence.tables["curves"] += [
                {"lr": lr, "policy": name, "step": int(t), "cost": float(c), "loss": float(m)}
                for t, c, m in zip(at, costs[_PLANT][0], loss[0], strict=True)
            ]
        workshop.progress("rates", k + 1, len(_RATES))
    evidence.findings = _judge(evidence.tables["runs"])
    return evidence


def clone(seeds: int, lr: float, steps: int) -> tuple[Array, Array]:
    """k after 0 … ``steps`` updates from 0 on the squared error ½(kx − y)², and its EMA: ``[S, steps +
    1]``."""
    from sgdlit.theory.draws import generator

    drawn = np.stack([
        generator(seed, "cloned actions").standard_normal((steps, 2, _BATCH)) for seed in range(seeds)
    ])  # fmt: skip
    x = drawn[:, :, 0]
    y = _EXPERT * x + _NOISE * drawn[:, :, 1]
    square, product = (x * x).mean(-1), (x * y).mean(-1)
    k, average = np.zeros((seeds, steps + 1)), np.zeros((seeds, steps + 1))
    for t in range(steps):
        k[:, t + 1] = k[:, t] - lr * (square[:, t] * k[:, t] - product[:, t])
        average[:, t + 1] = _DECAY * average[:, t] + (1 - _DECAY) * k[:, t + 1]
    return k, average


def rollout_cost(factor: Array) -> Array:
    """Σ_{t<60} |φ|ᵗ of the closed loop's factors φ."""
    import torch

    from sgdlit.measures.rollout_cost import rollout_cost as cost

    return cost(torch.from_numpy(factor), _HORIZON).numpy()


def _relative_std(values: Array) -> float:
    return float(values.std() / values.mean())


def _judge(rows: list[Row]) -> list[Finding]:
    def column(name: str, lr: float, policy: str) -> Array:
        return np.array([r[name] for r in select(rows, lr=lr, policy=policy)])

    raw, ema = ({n: column(n, 0.1, policy) for n in rows[0] if n not in ("lr", "policy", "seed")}
                for policy in ("raw", "EMA"))  # fmt: skip
    apart = raw["loss"] / ema["loss"]
    steady = np.concatenate([raw["relative_std_loss"], ema["relative_std_loss"]])
    small, stable = column("relative_std_cost", 0.01, "raw"), raw["relative_std_stable"]
    return [
        in_every_seed("L10", "η = 0.1: largest rollout cost, iterate over EMA",
                 raw["largest_cost"] / ema["largest_cost"], low=10),
        in_every_seed("L10", "η = 0.1: relative std of the cost, iterate", raw["relative_std_cost"], low=1),
        in_every_seed("L10", "η = 0.1: relative std of the cost, EMA", ema["relative_std_cost"], high=0.35),
        in_every_seed("L10", "η = 0.1: mean loss, iterate over EMA", apart, 0.98, 1.02),
        in_every_seed("L10", "η = 0.1: relative std of the loss, iterate and EMA", steady, high=0.02),
        in_every_seed("L10", "η = 0.01: relative std of the cost, iterate", small, high=0.35),
        in_every_seed("L10", "η = 0.1, stable plant: relative std of the cost, iterate", stable, high=0.15),
    ]  # fmt: skip


def draw(tables: Tables) -> dict[str, Figure]:
    """Cost of rollouts and loss over steps, raw and averaged."""
    figure, (left, right) = panels(1, 2)
    best = float(rollout_cost(np.array([_PLANT + _EXPERT]))[0])
    for color, policy in ((COLORS[1], "raw"), (COLORS[0], "EMA")):
        rows = select(tables["curves"], lr=0.1, policy=policy)
        steps = [r["step"] for r in rows]
        name = "iterate" if policy == "raw" else "EMA of iterates"
        width = 0.5 if policy == "raw" else 1.4
        left.plot(steps, [r["cost"] for r in rows], color=color, linewidth=width, label=name)
        right.plot(steps, [r["loss"] for r in rows], color=color, linewidth=width, label=name)
    left.axhline(best, color="black", linestyle="--", linewidth=1, label="the expert")
    right.axhline(_NOISE**2 / 2, color="black", linestyle="--", linewidth=1, label="least loss possible")
    right.set_ylim(0.12, 0.14)
    finish(left, "cost of a rollout, η = 0.1, seed 0 (L10)", "step", "Σ |x_t| over 60 steps", log="y")
    finish(right, "loss of the same policies", "step", "expected squared error / 2", log="")
    return {"butterfly": figure}


PAPER = Paper(
    "block2023",
    "Block et al. 2023, Butterfly effects of SGD noise: error amplification in behavior cloning and "
    "autoregression, "
    "arXiv 2310.11428",
    (
        Experiment(
            "butterfly",
            (
                Claim(
                    "L10",
                    "noise of SGD that the loss does not show makes rollouts oscillate wildly; averaging "
                    "the iterates "
                    "removes it",
                    "Block, Foster, Krishnamurthy, Simchowitz & Zhang 2023, arXiv 2310.11428, section 3",
                    "trained",
                    "η = 0.1: largest cost above 10 times that of the EMA in every seed, relative std above "
                    "1 against "
                    "below 0.35, losses within 2 % and steady to 2 %; η = 0.01 below 0.35; stable plant "
                    "below 0.15",
                    "k* = −0.1, action noise 0.5, B = 8, 4000 steps, every second one from 1000, EMA 0.99, "
                    "plant 1.05 "
                    "and 0.5; 20 seeds",
                    "the same as runs of fit. The paper: cloning in MuJoCo with MLP policies, rollouts of a "
                    "character-level language model (recalled)",
                    "list/butterfly.yaml",
                    other_seeds="of 1000 to 1019 one has 0.354 at η = 0.01, not below 0.35",
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
