"""Xu et al. 2024, no more Adam (SGD-SaI): rates per tensor, set once, let momentum SGD match Adam.

Each tensor's rate is the g-SNR ‖g‖/std(g) of its first gradient. For a matrix that is √numel to a percent,
because the mean of its gradient is small beside its spread: a number of the architecture, not of the data. So
rates ∝ √numel, which look at no gradient, are tried beside it.

What misleads: with 64 tokens, where no token is rare, all methods end alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed, in_the_mean
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STEPS, _BATCHES = 300, 16
_STEADY = 0.03  # the largest relative spread of a tensor's g-SNR
_VOCABULARIES = (512, 64)
_TENSOR_RATES = "sgdlit.algorithms.tensor_rates.TensorRates"
_MOMENTUM = ["--model.optimizer.momentum", "0.9"]  # else it is that of the optimizer before, which is 0
_METHODS: dict[str, tuple[tuple[float, ...], list[str]]] = {
    "SGDM": ((0.1, 0.3, 1.0), ["torch.optim.SGD", *_MOMENTUM]),
    "SaI": ((0.01, 0.03, 0.1), [_TENSOR_RATES, *_MOMENTUM]),
    "√numel": ((0.01, 0.03, 0.1), [_TENSOR_RATES, *_MOMENTUM, "--model.optimizer.rates", "sqrt_numel"]),
    "Adam": ((3e-3, 1e-2, 3e-2), ["torch.optim.Adam", "--model.optimizer.betas", "[0.9,0.99]"]),
}
"""Rates, and the optimizer as options of ``fit``. Torch's momentum sums gradients up: its rate 0.1 is 1 of a
running mean."""


@dataclass
class Options:
    """Rates per tensor in a transformer of one block.

    Symbols (Xu et al., arXiv 2412.11768, algorithm 1): s = ‖g‖/(std(g) + ε) of each tensor's first gradient
    (g-SNR); m ← μm + (1 − μ)g, w ← (1 − ηλ)w − ηsm, here λ = 0, μ = 0.9, η decays to 0 by a cosine.

    Args:
        seeds: of data and initial parameters.
    """

    seeds: int = 5


# The rates


def measure_rates(o: Options, workshop: Workshop) -> Evidence:
    """Table ``g_snr``: of each seed, tensor and minibatch at the start."""
    import torch

    from sgdlit.algorithms.tensor_rates import gradient_snr
    from sgdlit.data.zipf_tokens import ZipfTokens
    from sgdlit.models.tiny_transformer import TinyTransformer
    from sgdlit.objectives import loss_by_name
    from sgdlit.papers.support.initial_networks import initial_network

    loss, rows = loss_by_name("next_token"), []
    for seed in range(o.seeds):
        network = initial_network(TinyTransformer, seed)
        batches = ZipfTokens(steps=_STEPS, batch_size=32, seed=seed).batches(torch.device("cpu"))
        names, parameters = zip(*network.named_parameters(), strict=True)
        for k in range(_BATCHES):
            inputs, targets = batches.batch(k, slice(0, 32))
            gradients = torch.autograd.grad(loss(network(inputs), targets), parameters)
            rows += [
                {"seed": seed, "batch": k, "tensor": name, "dimensions": g.dim(), "numel": g.numel(),
                 "g_snr": float(gradient_snr(g))}
                for name, g in zip(names, gradients, strict=True)
            ]  # fmt: skip
        workshop.progress("seeds", seed + 1, o.seeds)
    return Evidence({"g_snr": rows}, _about_rates(rows))


def _about_rates(rows: list[Row]) -> list[Finding]:
    seeds = distinct(rows, "seed")
    first = [select(rows, seed=seed, batch=0) for seed in seeds]
    matrices, vectors = ([[r for r in one if r["dimensions"] == d] for one in first] for d in (2, 1))
    from_one = [max(abs(ratio - 1) for ratio in _over_root(one)) for one in matrices]
    spreads = {d: [_spreads(select(rows, seed=seed, dimensions=d)) for seed in seeds] for d in (1, 2)}
    spread = {d: [max(own.values()) for own in spreads[d]] for d in spreads}
    above = sorted({name for own in spreads[1] for name, value in own.items() if value > _STEADY})
    note = f"above it in some seed: {', '.join(above)}; a vector has few entries, whose mean moves"
    over = f"largest relative spread of a tensor's g-SNR over {_BATCHES} minibatches"
    return [
        in_every_seed("L36a", "matrices: largest distance of g-SNR/√numel from 1", from_one, high=0.01),
        in_every_seed("L36a", "vectors: least g-SNR/√numel", [min(_over_root(v)) for v in vectors], low=0.9),
        in_every_seed("L36a", "vectors: largest g-SNR/√numel", [max(_over_root(v)) for v in vectors],
                      high=2.5),
        in_every_seed("L36c", f"matrices: {over}", spread[2], high=_STEADY),
        in_every_seed("L36c", f"vectors: {over}", spread[1], high=_STEADY, note=note),
        in_every_seed("L36a", "largest over least g-SNR of the tensors",
                      [max(r["g_snr"] for r in one) / min(r["g_snr"] for r in one) for one in first], low=8),
    ]  # fmt: skip


def _spreads(rows: Sequence[Row]) -> dict[str, float]:
    """The standard deviation over minibatches, over the mean, of each tensor's g-SNR."""
    each = {t: np.array([r["g_snr"] for r in select(rows, tensor=t)]) for t in distinct(rows, "tensor")}
    return {tensor: float(own.std(ddof=1) / own.mean()) for tensor, own in each.items()}


def _over_root(rows: Sequence[Row]) -> list[float]:
    return [row["g_snr"] / row["numel"] ** 0.5 for row in rows]


def draw_rates(tables: Tables) -> dict[str, Figure]:
    """g-SNR over the number of entries, and √numel."""
    figure, (ax,) = panels(1, 1, width=4.8, height=3.8)
    rows = tables["g_snr"]
    for k, (label, is_matrix) in enumerate((("matrices", True), ("vectors", False))):
        here = [row for row in rows if (row["dimensions"] == 2) is is_matrix]
        ax.plot([r["numel"] for r in here], [r["g_snr"] for r in here], MARKERS[k], color=COLORS[k + 1],
                markersize=4, alpha=0.3, label=label)  # fmt: skip
    ends = [min(r["numel"] for r in rows), max(r["numel"] for r in rows)]
    ax.plot(ends, [n**0.5 for n in ends], color=COLORS[0], label="√numel")
    finish(ax, "g-SNR of the first gradients of each tensor", "entries of the tensor", "‖g‖ / std(g)")
    return {"g_snr": figure}


# Training with them


def measure_training(o: Options, workshop: Workshop) -> Evidence:
    """Table ``ends``: the test loss at the end by vocabulary, method, rate and seed."""
    rows: list[Row] = []
    fits = [(vocabulary, method) for vocabulary in _VOCABULARIES for method in _METHODS]
    for i, (vocabulary, method) in enumerate(fits):
        rows += _trained(workshop, o.seeds, vocabulary, method)
        workshop.progress("ensembles", i + 1, len(fits))
    return Evidence({"ends": rows}, _about_ends(rows))


def _trained(workshop: Workshop, seeds: int, vocabulary: int, method: str) -> list[Row]:
    lrs, optimizer = _METHODS[method]
    points = [(seed, lr) for seed in range(seeds) for lr in lrs]
    folder = workshop.fit(
        f"{list(_METHODS).index(method)}_of_{vocabulary}", "list/tiny_transformer.yaml",
        "--model.optimizer", *optimizer,
        "--model.scheduler", "torch.optim.lr_scheduler.CosineAnnealingLR",
        "--model.scheduler.T_max", str(_STEPS), "--data.steps", str(_STEPS),
        "--data.vocabulary", str(vocabulary), "--model.network.vocabulary", str(vocabulary),
        "--trainer.callbacks", "[]", "--trainer.accelerator", "cpu", "--trainer.logger", "false",
        "--trainer.enable_progress_bar", "false",
        "--ensemble", f"[{{seed_everything: {list(range(seeds))}}}, {{model.optimizer.lr: {list(lrs)}}}]",
    )  # fmt: skip
    rows = []
    for (seed, lr), member in zip(points, load_run(folder).members, strict=True):
        diverged = member.state == "diverged"
        loss = None if diverged else float(member.columns["test/loss"][1][-1])
        rows.append({"vocabulary": vocabulary, "method": method, "lr": lr, "seed": seed, "loss": loss})
    return rows


def best_of_each_seed(rows: Sequence[Row], vocabulary: int, method: str) -> np.ndarray:
    """The lowest loss over the rates, float64 ``[seeds]``; infinite where all diverged."""
    here = select(rows, vocabulary=vocabulary, method=method)
    return np.array([
        min((r["loss"] for r in select(here, seed=seed) if r["loss"] is not None), default=np.inf)
        for seed in distinct(here, "seed")
    ])  # fmt: skip


def _about_ends(rows: list[Row]) -> list[Finding]:
    best = {(v, m): best_of_each_seed(rows, v, m) for v in _VOCABULARIES for m in _METHODS}
    many, few = _VOCABULARIES
    sgdm, sai, root, adam = (best[many, method] for method in _METHODS)
    means = ", ".join(f"{method} {best[few, method].mean():.3f}" for method in _METHODS)
    note = f"with {few} tokens the methods end at {means} in the mean"
    end = "test loss at the end, best rates"
    return [
        in_every_seed("L36b", f"{end}, SaI minus SGDM", sai - sgdm, high=0, note=note),
        in_the_mean("L36b", f"{end}, SaI minus Adam", sai - adam, -0.01, 0.04),
        in_the_mean("L36b", f"{end}, size of SaI minus √numel", np.abs(sai - root), high=0.02),
    ]


def draw_training(tables: Tables) -> dict[str, Figure]:
    """The loss at the end of each method at its best rate, seed by seed."""
    figure, axes = panels(1, 2)
    for ax, vocabulary in zip(axes, _VOCABULARIES, strict=True):
        best = np.array([best_of_each_seed(tables["ends"], vocabulary, m) for m in _METHODS])
        for k, of_seed in enumerate(best.T):
            ax.plot(range(len(_METHODS)), of_seed, "-", color="grey", linewidth=0.8, marker="o", markersize=3,
                    label="one seed" if k == 0 else None)  # fmt: skip
        ax.plot(range(len(_METHODS)), best.mean(1), "_", color=COLORS[1], markersize=24, markeredgewidth=2,
                label="mean")  # fmt: skip
        ax.set_xticks(range(len(_METHODS)), list(_METHODS))
        finish(
            ax, f"{vocabulary} tokens, each method at its best rate", "", "test loss after 300 steps", log=""
        )
    return {"ends": figure}


_SETTING = "a pre-LN transformer of width 32 and one block, five seeds"
_FULL = "ViT-S on ImageNet, GPT-2 on OpenWebText"
_SOURCE = "Xu, Xiang, Cai & Wen 2024, arXiv 2412.11768"
_CONFIG = "list/tensor_rates.yaml"

PAPER = Paper(
    "xu2024",
    "Xu et al. 2024, No more Adam: learning rate scaling at initialization is all you need, arXiv 2412.11768",
    (
        Experiment(
            "rates",
            (
                Claim(
                    "L36a",
                    "g-SNR differs much between tensors; for matrices it is √numel",
                    f"{_SOURCE}, equation of g-SNR",
                    "trained",
                    "1 ± 0.01 of √numel for matrices, 0.9 to 2.5 for vectors, > 8× over tensors",
                    f"{_SETTING}, {_BATCHES} minibatches at the start",
                    _FULL,
                    _CONFIG,
                ),
                Claim(
                    "L36c",
                    "g-SNR hardly changes over minibatches",
                    f"{_SOURCE}, equation of g-SNR",
                    "trained",
                    "a standard deviation below 3 % of the mean for each tensor, in every seed",
                    f"{_SETTING}, {_BATCHES} minibatches at the start",
                    _FULL,
                    _CONFIG,
                    shows=False,
                ),
            ),
            measure_rates,
            draw_rates,
        ),
        Experiment(
            "training",
            (
                Claim(
                    "L36b",
                    "with such rates momentum SGD matches Adam on a transformer, where one rate does not",
                    f"{_SOURCE}, algorithm 1",
                    "trained",
                    "SaI below SGDM in every seed, within −0.01 to 0.04 of Adam, within 0.02 of √numel",
                    f"{_SETTING}, 300 steps, three rates of each method",
                    _FULL,
                    _CONFIG,
                ),
            ),
            measure_training,
            draw_training,
        ),
    ),
    Options,
)
