"""De & Smith 2020, SkipInit: residual networks train without normalization once their branches start at 0.

Along a residual network without normalization the variance of the hidden activations grows by a factor with
every block; BatchNorm makes each branch as small as 1/√depth of its shortcut, so that it grows by an addend;
and a learnable scalar per branch that starts at 0 does as much without normalization.

What misleads: a narrow network's branch is correlated with its shortcut, so that the growth of a single block
is not the mean one; several blocks are compared. Depth is what counts: a shallow network trains in every way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import ONE_SEED, fresh_seeds, in_words
from sgdlit.papers.support.seed_findings import in_every_seed
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["none", "batchnorm", "skipinit"]
_KINDS: dict[Kind, str] = {"none": "no normalization", "batchnorm": "BatchNorm", "skipinit": "SkipInit"}
_BLOCKS, _IMAGES = 12, 32


@dataclass
class Options:
    """Hidden activations of a residual network at its start.

    Symbols (De & Smith, arXiv 2002.10444, section 2): x_{l+1} = x_l + α_l f_l(x_l), the variance of x_l over
    images, places and channels; α_l = 1 without SkipInit, and 0 at the start with it. In the first stage of
    the network, where every shortcut is the identity.

    Args:
        seeds: how many, each of initial parameters and of images.
    """

    seeds: int = 5


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Table ``variances``: of the activations after each block, by kind of network and seed."""
    rows: list[Row] = []
    for kind in _KINDS:
        for seed in fresh_seeds(o.seeds):
            variances = activations(kind, seed)
            rows += [{"kind": kind, "seed": seed, "block": k, "variance": v} for k, v in enumerate(variances)]
        workshop.progress("networks", len(distinct(rows, "kind")), len(_KINDS))
    return Evidence({"variances": rows}, _findings(rows), seeds=in_words(o.seeds))


def activations(kind: Kind, seed: int) -> list[float]:
    """The variance of x_l for l = 0 … blocks in the first stage, over that of x_0."""
    import torch

    from sgdlit.data.image_stream import ShapesStream
    from sgdlit.models import WideResNet
    from sgdlit.papers.support.initial_networks import initial_network

    data = ShapesStream(steps=1, batch_size=_IMAGES, seed=seed)
    images, _ = data.batches(torch.device("cpu")).batch(0, slice(0, _IMAGES))
    network = initial_network(lambda: WideResNet(6 * _BLOCKS + 4, 1, normalization=kind), seed)
    with torch.no_grad():
        x = network.stem(images)
        found = [float(x.double().var())]
        for block in list(network.blocks)[:_BLOCKS]:
            x = block(x)
            found.append(float(x.double().var()))
    return [v / found[0] for v in found]


def _findings(rows: list[Row]) -> list[Finding]:
    by_kind = {kind: _by_seed(rows, kind) for kind in _KINDS}
    factors = np.exp(np.diff(np.log(by_kind["none"]), axis=1).mean(1))
    half = _BLOCKS // 2
    later = {kind: found[:, -1] / found[:, half] for kind, found in by_kind.items()}
    return [
        in_every_seed("SI1", "no normalization: geometric mean of the growth per block", factors, 1.5, 3),
        in_every_seed("SI1", f"BatchNorm: growth from block {half} to {_BLOCKS}", later["batchnorm"], 1, 3),
        in_every_seed("SI1", f"none: growth from block {half} to {_BLOCKS}", later["none"], low=8),
        in_every_seed(
            "SI1", "SkipInit: largest distance of the growth of any block from 1",
            np.abs(by_kind["skipinit"] - 1).max(1), high=1e-12,
        ),
    ]  # fmt: skip


def _by_seed(rows: list[Row], kind: str) -> np.ndarray:
    """Variances, float64 ``[seeds, blocks + 1]``."""
    here = select(rows, kind=kind)
    return np.array([[row["variance"] for row in select(here, seed=s)] for s in distinct(here, "seed")])


def draw(tables: Tables) -> dict[str, Figure]:
    """Variances over blocks, 2ˡ and 1 + l."""
    figure, (ax,) = panels(1, 1, width=5.0, height=3.8)
    blocks = np.arange(_BLOCKS + 1)
    for k, (kind, name) in enumerate(_KINDS.items()):
        for i, of_seed in enumerate(_by_seed(tables["variances"], kind)):
            ax.plot(blocks, of_seed, MARKERS[k], color=COLORS[k], markersize=3.5, alpha=0.6,
                    label=f"{name}, seeds" if i == 0 else None)  # fmt: skip
    for color, values, label in ((COLORS[0], 2.0**blocks, "2ˡ"), (COLORS[1], 1.0 + blocks, "1 + l")):
        ax.plot(blocks, values, color=color, linestyle="--", linewidth=1, label=label)
    finish(
        ax, "activations of a residual network at its start", "block l", "variance / that at l = 0", log="y"
    )
    return {"variances": figure}


# Training

_DEPTH, _STEPS, _RATE, _LOW_RATE = 40, 40, 0.1, 0.001
_RUNS: tuple[tuple[Kind, float], ...] = (
    ("skipinit", _RATE), ("batchnorm", _RATE), ("none", _RATE), ("none", _LOW_RATE)
)  # fmt: skip


def measure_training(o: Options, workshop: Workshop) -> Evidence:
    """Table ``losses``: the training loss over steps by kind and rate, up to where it is not finite."""
    rows: list[Row] = []
    ends: dict[tuple[Kind, float], tuple[float, str]] = {}
    for i, (kind, lr) in enumerate(_RUNS):
        run = load_run(workshop.fit(f"{kind}_{lr:g}", "teachers/shapes.yaml", *_arguments(kind, lr)))
        steps, losses = run.column("train/loss")
        rows += [
            {"kind": kind, "lr": lr, "step": int(t), "loss": float(c)}
            for t, c in zip(steps, losses, strict=True)
        ]
        ends[kind, lr] = float(losses[-1]), run.state
        workshop.progress("networks", i + 1, len(_RUNS))
    findings = [_trains(ends, "skipinit"), _trains(ends, "batchnorm"), _fails(ends)]
    return Evidence({"losses": rows}, findings, seeds=in_words(1))


def _arguments(kind: Kind, lr: float) -> list[str]:
    return [
        "--model.network.depth", str(_DEPTH), "--model.network.normalization", kind,
        "--model.optimizer.lr", str(lr), "--data.shard_size", "16", "--data.batch_size", "16",
        "--data.test_size", "20", "--data.steps", str(_STEPS), "--trainer.val_check_interval", str(_STEPS),
        "--trainer.log_every_n_steps", "1", "--trainer.accelerator", "cpu",
        "--trainer.enable_progress_bar", "false", *ONE_SEED,
    ]  # fmt: skip


_ONE_RUN = "none: one run, compared with guessing"


def _trains(ends: dict[tuple[Kind, float], tuple[float, str]], kind: Kind) -> Finding:
    loss, _ = ends[kind, _RATE]
    statement = f"{_KINDS[kind]}, rate {_RATE:g}: training loss before step {_STEPS}, where guessing has 2.30"
    return Finding("SI2", statement, "< 1.7", f"{loss:.3g}", loss < 1.7, _ONE_RUN)


def _fails(ends: dict[tuple[Kind, float], tuple[float, str]]) -> Finding:
    loss, state = ends["none", _RATE]
    low, low_state = ends["none", _LOW_RATE]
    note = f"at the rate {_LOW_RATE:g} it is {low_state} with a loss of {low:.3g}"
    statement = f"no normalization, rate {_RATE:g}: how the run ends"
    shown = f"{state}, the last loss {loss:.3g}"
    return Finding("SI2", statement, "diverged", shown, state == "diverged", _ONE_RUN, note)


def draw_training(tables: Tables) -> dict[str, Figure]:
    """The training loss over steps."""
    figure, (ax,) = panels(1, 1, width=5.0, height=3.8)
    for k, (kind, lr) in enumerate(_RUNS):
        rows = select(tables["losses"], kind=kind, lr=lr)
        ax.plot([r["step"] for r in rows], [r["loss"] for r in rows], color=COLORS[k], marker=MARKERS[k],
                markersize=3, linewidth=1.2, label=f"{_KINDS[kind]}, rate {lr:g}")  # fmt: skip
    ax.axhline(np.log(10), color="black", linestyle="--", linewidth=1, label="guessing, ln 10")
    finish(ax, f"gradient descent of WRN-{_DEPTH}-1 on 16 images", "step", "training loss", log="y")
    return {"training": figure}


PAPER = Paper(
    "de2020",
    "De & Smith 2020, Batch normalization biases residual blocks towards the identity function, "
    "arXiv 2002.10444",
    (
        Experiment(
            "variances",
            (
                Claim(
                    "SI1",
                    "activations grow as a power without normalization, linearly with BatchNorm, and with "
                    "SkipInit not at all",
                    "De & Smith 2020, arXiv 2002.10444, section 2",
                    "simulated",
                    "growth per block of 1.5 to 3, so above 8 over the last half, where 1 + l grows by 1.9; "
                    "with SkipInit 1",
                    f"WRN-{6 * _BLOCKS + 4}-1 at its start, its first {_BLOCKS} blocks, five seeds",
                    "the same",
                ),
            ),
            measure,
            draw,
        ),
        Experiment(
            "training",
            (
                Claim(
                    "SI2",
                    "a deep residual network trains without normalization at a large rate if it has SkipInit",
                    "De & Smith 2020, arXiv 2002.10444, section 3",
                    "trained",
                    "SkipInit and BatchNorm below a loss of 1.7, nothing at all diverges",
                    f"WRN-{_DEPTH}-1 on 16 images, {_STEPS} steps at rate {_RATE:g}, one seed",
                    "the same; for accuracies WRN-16-4 on CIFAR-10, with skipinit or batchnorm",
                    "teachers/shapes.yaml",
                ),
            ),
            measure_training,
            draw_training,
        ),
    ),
    Options,
)
