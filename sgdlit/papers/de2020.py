"""De & Smith 2020, SkipInit: residual networks train without normalization once their branches start at 0.

Along a residual network without normalization the variance of the hidden activations grows by a factor with
every block; BatchNorm makes each branch as small as 1/√depth of its shortcut, so that it grows by an addend;
and a learnable scalar per branch that starts at 0 does as much without normalization.

What misleads: a narrow network's branch is correlated with its shortcut, so that the growth of a single block
is not the mean one; several blocks are compared. Only the start is looked at: depth is what counts, and deep
networks take longer to train than a quick protocol has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KINDS = {"none": "no normalization", "batchnorm": "BatchNorm", "skipinit": "SkipInit"}
_BLOCKS, _IMAGES = 12, 32


@dataclass
class Options:
    """Hidden activations of a residual network at its start.

    Symbols (De & Smith, arXiv 2002.10444, section 2): x_{l+1} = x_l + α_l f_l(x_l), the variance of x_l over
    images, places and channels; α_l = 1 without SkipInit, and 0 at the start with it. In the first stage of
    the network, where every shortcut is the identity.

    Args:
        seeds: of the initial parameters and of the images.
    """

    seeds: int = 5


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Table ``variances``: of the activations after each block, by kind of network and seed."""
    rows: list[Row] = []
    for kind in _KINDS:
        for seed in range(o.seeds):
            variances = activations(kind, seed)
            rows += [{"kind": kind, "seed": seed, "block": k, "variance": v} for k, v in enumerate(variances)]
        workshop.progress("networks", len(distinct(rows, "kind")), len(_KINDS))
    return Evidence({"variances": rows}, _findings(rows))


def activations(kind: str, seed: int) -> list[float]:
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
    ),
    Options,
)
