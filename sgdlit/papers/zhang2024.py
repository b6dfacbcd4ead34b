"""Zhang et al. 2024, why transformers need Adam: of one spectrum, one rate fails where the blocks of the
Hessian differ, and a rate for each block rescues that case only.

Three blocks of three eigenvalues hold the same nine numbers in two ways. ``mixed``: every block has small and
large ones. ``split``: the small ones share a block, and so do the large ones. Blocks are rotated, so no
method sees the eigenvectors.

What misleads: Adam in full (β = 0.9, 0.999) solves both, because its preconditioner follows the gradient
along the way. The clean separation is that of the rates per block, and of a preconditioner that is set once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.figures.style import COLORS, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed
from sgdlit.theory.gradient_scaling import AdamMoments

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray
Update = Callable[[Array, int], Array]
"""gradient ``[..., S, P]`` and step -> what is subtracted from the parameters."""

BLOCKS = {
    "mixed": [[1.0, 99.0, 4998.0], [2.0, 100.0, 4999.0], [3.0, 101.0, 5000.0]],
    "split": [[1.0, 2.0, 3.0], [99.0, 100.0, 101.0], [4998.0, 4999.0, 5000.0]],
}
_TITLES = {"mixed": "each with λ near 1, 100 and 5000", "split": "λ near 1, near 100, and near 5000"}
_RATES = np.geomspace(1e-4, 1e-1, 13)


@dataclass
class Options:
    """Gradient descent and Adam on a quadratic ½wᵀHw, where H has three rotated 3×3 blocks.

    Symbols (Zhang et al., arXiv 2402.16788): λ the eigenvalues of H, the same in both arrangements; one rate
    is 2/(λ_max + λ_min) of H, and block rates are those of each block. The first-gradient preconditioner is
    Adam's with β₁ = 0, β₂ = 1: every coordinate is divided by |g₀|.

    Args:
        seeds: rotations and starts w₀ ~ N(0, I).
        steps: of every method.
    """

    seeds: int = 10
    steps: int = 2000


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``losses``, over steps, of each seed's end the median, and ``ends``, of each seed."""
    tables: Tables = {"losses": [], "ends": []}
    ends: dict[tuple[str, str], Array] = {}
    conditions: dict[str, Array] = {}
    for i, (arrangement, blocks) in enumerate(BLOCKS.items()):
        hessian, start = problems(blocks, o.seeds)
        conditions[arrangement] = condition_numbers(hessian, start)
        for method, losses in _all_methods(blocks, hessian, start, o.steps).items():
            ends[arrangement, method] = losses[-1]
            tables["ends"] += [
                {"blocks": arrangement, "method": method, "seed": s, "loss": float(v)}
                for s, v in enumerate(losses[-1])
            ]
            tables["losses"] += _curve(arrangement, method, losses)
        workshop.progress("arrangements", i + 1, len(BLOCKS))
    return Evidence(tables, _findings(ends, conditions["split"]))


def problems(blocks: list[list[float]], seeds: int) -> tuple[Array, Array]:
    """H, float64 ``[S, P, P]``, and w₀ ~ N(0, I), ``[S, P]``."""
    import torch

    from sgdlit.models.block_quadratic import rotated

    size = sum(map(len, blocks))
    hessian, start = np.zeros((seeds, size, size)), np.empty((seeds, size))
    for seed in range(seeds):
        start[seed] = theory.normal_matrix(seed, "block quadratic start", 1, size)[0]
        place = 0
        for b, block in enumerate(blocks):
            n = len(block)
            normals = torch.from_numpy(theory.normal_matrix(seed, f"block quadratic {b}", n, n))
            inside = slice(place, place + n)
            hessian[seed, inside, inside] = rotated(torch.tensor(block, dtype=torch.float64), normals).numpy()
            place += n
    return hessian, start


def _all_methods(blocks: list[list[float]], hessian: Array, start: Array, steps: int) -> dict[str, Array]:
    """ℓ_t/ℓ₀ of every method, ``[T + 1, S]``."""
    whole = [v for block in blocks for v in block]
    one_rate = 2 / (max(whole) + min(whole))
    block_rates = np.concatenate([np.full(len(b), 2 / (max(b) + min(b))) for b in blocks])
    first, moments = np.abs(np.einsum("spq,sq->sp", hessian, start)), AdamMoments()
    return {
        "one rate": descend(hessian, start, steps, lambda g, t: one_rate * g),
        "rate per block": descend(hessian, start, steps, lambda g, t: block_rates * g),
        "first gradient": descend(hessian, start, steps, _preconditioned(hessian, first)),
        "Adam": _best(
            descend(hessian, start, steps, lambda g, t: _RATES[:, None, None] * moments.adapted(g))
        ),
    }


def descend(hessian: Array, start: Array, steps: int, update: Update) -> Array:
    """ℓ_t/ℓ₀ for t = 0 … T, ``[T + 1, ..., S]``, of w ← w − update(Hw, t)."""
    losses, w = [], start
    for t in range(steps + 1):
        gradient = np.einsum("spq,...sq->...sp", hessian, w)
        losses.append(0.5 * (w * gradient).sum(-1))
        w = w - update(gradient, t)
    losses[0] = np.broadcast_to(losses[0], losses[-1].shape)
    return np.stack(losses) / losses[0]


def _preconditioned(hessian: Array, first: Array) -> Update:
    """D⁻¹g at the best rate 2/(μ_max + μ_min), D = diag |g₀|."""
    values = _preconditioned_values(hessian, first)
    lr = 2 / (values[:, -1:] + values[:, :1])
    return lambda g, t: lr * g / first


def _preconditioned_values(hessian: Array, first: Array) -> Array:
    """μ, the eigenvalues of D^(−1/2) H D^(−1/2) from the smallest up, ``[S, P]``."""
    root = np.sqrt(first)
    return np.linalg.eigvalsh(hessian / (root[:, :, None] * root[:, None, :]))


def condition_numbers(hessian: Array, start: Array) -> Array:
    """μ_max/μ_min of each seed, ``[S]``."""
    values = _preconditioned_values(hessian, np.abs(np.einsum("spq,sq->sp", hessian, start)))
    return values[:, -1] / values[:, 0]


def _best(losses: Array) -> Array:
    """Of each seed, the rate that ends lowest: ``[T + 1, S]`` from ``[T + 1, rates, S]``."""
    best = losses[-1].argmin(0)
    return losses[:, best, np.arange(losses.shape[2])]


def _curve(arrangement: str, method: str, losses: Array) -> list[Row]:
    steps = np.unique(np.geomspace(1, len(losses) - 1, 60).astype(int))
    return [
        {"blocks": arrangement, "method": method, "step": int(t), "low": float(losses[t].min()),
         "median": float(np.median(losses[t])), "high": float(losses[t].max())}
        for t in steps
    ]  # fmt: skip


def _findings(ends: dict[tuple[str, str], Array], conditions: Array) -> list[Finding]:
    what = "loss at the end over that at the start"
    adam = [f"{blocks} {np.median(ends[blocks, 'Adam']):.1e}" for blocks in BLOCKS]
    note = f"Adam in full, at the best of 13 rates, solves both: median {', '.join(adam)}"
    order = np.argsort(ends["split", "first gradient"])[::-1]
    split = ends["split", "first gradient"]
    worst = ", ".join(f"{split[k]:.0e} (μ_max/μ_min {conditions[k]:.0f})" for k in order[:3])
    why = (
        f"the three highest: {worst}; a coordinate of g₀ that is near 0 makes the preconditioned block "
        f"ill-conditioned, μ_max/μ_min is {np.median(conditions):.0f} in the median"
    )
    return [
        in_every_seed("L37a", f"one rate, mixed: {what}", ends["mixed", "one rate"], 0.003, 0.5),
        in_every_seed("L37a", f"one rate, split: {what}", ends["split", "one rate"], 0.003, 0.5),
        in_every_seed("L37a", f"rate per block, split: {what}", ends["split", "rate per block"], high=1e-30),
        in_every_seed("L37a", f"rate per block, mixed: {what}", ends["mixed", "rate per block"], low=1e-3),
        in_every_seed("L37b", f"first gradient, split: {what}", split, high=1e-15, note=why),
        in_every_seed(
            "L37b", f"first gradient, mixed: {what}", ends["mixed", "first gradient"], low=1e-5, note=note
        ),
    ]


def draw(tables: Tables) -> dict[str, Figure]:
    """Loss over steps in both arrangements; bands from the lowest to the highest seed."""
    figure, axes = panels(1, 2)
    for ax, blocks in zip(axes, BLOCKS, strict=True):
        for color, method in zip(
            COLORS, ("one rate", "rate per block", "first gradient", "Adam"), strict=False
        ):
            _draw_curve(ax, select(tables["losses"], blocks=blocks, method=method), color, method)
        rows = select(tables["losses"], blocks=blocks, method="one rate")
        steps = np.array([row["step"] for row in rows])
        bound = (1 - 2 / 5001) ** (2 * steps)
        ax.plot(
            steps, bound, color=COLORS[6], linestyle="--", linewidth=1, label="((κ − 1)/(κ + 1))²ᵗ, κ = 5000"
        )
        finish(ax, f"three blocks, {_TITLES[blocks]}", "step", "loss / loss at the start")
        ax.set_ylim(1e-32, 10)
    return {"blocks": figure}


def _draw_curve(ax: Axes, rows: list[Row], color: str, label: str) -> None:
    steps = [row["step"] for row in rows]
    ax.plot(steps, [row["median"] for row in rows], color=color, label=label)
    ax.fill_between(
        steps,
        [row["low"] for row in rows],
        [row["high"] for row in rows],
        color=color,
        alpha=0.2,
        linewidth=0,
    )


_QUICK = "three rotated 3×3 blocks, the same nine eigenvalues in two arrangements, 2000 steps, ten seeds"
_FULL = "spectra of the blocks of ViT, BERT and GPT-2 against CNNs by stochastic Lanczos quadrature"


def _claim(identity: str, statement: str, prediction: str, shows: bool = True) -> Claim:
    source = "Zhang, Chen, Ding, Li, Sun & Luo 2024, arXiv 2402.16788, section 3"
    return Claim(
        identity, statement, source, "exact", prediction, _QUICK, _FULL, "list/block_quadratic.yaml", shows
    )


PAPER = Paper(
    "zhang2024",
    "Zhang et al. 2024, Why transformers need Adam: a Hessian perspective, arXiv 2402.16788",
    (
        Experiment(
            "blocks",
            (
                _claim(
                    "L37a",
                    "of one spectrum, a rate for each block rescues heterogeneous blocks, and them only",
                    "one rate: 0.003 to 0.5 of the loss remain; block rates: below 1e-30 and above 1e-3",
                ),
                _claim(
                    "L37b",
                    "a diagonal preconditioner that is set once helps heterogeneous blocks most",
                    "below 1e-15 of the loss remain where blocks differ, above 1e-5 where they do not",
                    shows=False,
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
