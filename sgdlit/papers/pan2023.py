"""Pan & Li 2023, why Adam converges faster than SGD for transformers: its direction is less sharp.

The curvature along a direction v is vᵀHv/‖v‖². The directions are those that different methods would step
along from one and the same iterate, of a run of Adam: the minibatch gradient, its running mean, Adam's
update, and the gradient with its largest coordinates clipped.

What misleads: the Hessian has to be that of other examples than those of the minibatch, whose own Hessian is
large along its gradient. With few tokens there are no rare ones, and the gap shrinks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, finish, panels, select
from sgdlit.foundations.intervals import t_interval
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed, in_the_mean, in_the_median, range_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor
    from torch.optim import Optimizer

    from sgdlit.algorithms import Member
    from sgdlit.data.batches import Batches

_STEPS = (10, 100, 300)
_FEW = 64
_DIRECTIONS = ("gradient", "momentum", "Adam", "clipped 10 %", "clipped 50 %")


@dataclass
class Options:
    """Curvature along directions on the way of Adam, in a transformer of one block.

    Symbols (Pan & Li, arXiv 2306.00204): s(v) = vᵀHv/‖v‖², H the Hessian of the mean loss of 128 sequences;
    clipped 10 % is the gradient cut off at the 90th percentile of its |coordinates|.

    Args:
        seeds: of data and initial parameters.
        vocabulary: number of tokens; 64 are compared with it.
    """

    seeds: int = 5
    vocabulary: int = 512


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Table ``sharpness``: s(v) by vocabulary, seed, step and direction."""
    import torch

    rows: list[Row] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for vocabulary in (o.vocabulary, _FEW):
            for seed in range(o.seeds):
                rows += _one_run(vocabulary, seed)
                workshop.progress("runs", len(rows) // (len(_STEPS) * len(_DIRECTIONS)), 2 * o.seeds)
    finally:
        torch.set_num_threads(threads)
    return Evidence({"sharpness": rows}, _findings(o, rows))


def _one_run(vocabulary: int, seed: int) -> list[Row]:
    """Train with Adam, and measure s(v) at each of the steps."""
    import torch

    from sgdlit.algorithms import EngineGroup, Member
    from sgdlit.data.batches import Block
    from sgdlit.data.zipf_tokens import ZipfTokens
    from sgdlit.measures.directional_sharpness import directional_sharpness_of
    from sgdlit.measures.products import HessianProducts
    from sgdlit.models.tiny_transformer import TinyTransformer
    from sgdlit.objectives import loss_by_name
    from sgdlit.papers.support.initial_networks import initial_network

    data = ZipfTokens(vocabulary, steps=_STEPS[-1], batch_size=32, seed=seed)
    batches = data.batches(torch.device("cpu"))
    evaluated = data.draw("test", torch.arange(128))
    network = initial_network(lambda: TinyTransformer(vocabulary), seed)
    loss = loss_by_name("next_token")
    member = Member(network, loss, lambda p: torch.optim.Adam(p, lr=3e-3, betas=(0.9, 0.99)))
    engines = EngineGroup([member], "loop")
    rows: list[Row] = []
    for start, end in pairwise((0, *_STEPS)):
        engines.run(Block(start, end - start, [batches]))
        hessian = HessianProducts(network, loss, [evaluated])
        rows += [
            {"vocabulary": vocabulary, "seed": seed, "step": end, "direction": name,
             "sharpness": directional_sharpness_of(hessian, v)}
            for name, v in directions(member, batches, end).items()
        ]  # fmt: skip
    return rows


def directions(member: Member, batches: Batches, step: int) -> dict[str, Tensor]:
    """What different methods would step along at update ``step``, from where Adam is: ``[P]`` each."""
    import torch

    from sgdlit.algorithms.transforms.coordinate_clip import clip_coordinates

    inputs, targets = batches.batch(step, slice(0, batches.size(step)))
    parameters = list(member.network.parameters())
    gradients = torch.autograd.grad(member.loss(member.outputs(inputs), targets), parameters)
    g = torch.cat([one.flatten() for one in gradients])
    mean, square = (_state(member.optimizer, name) for name in ("exp_avg", "exp_avg_sq"))
    (first, second), eps = (member.optimizer.param_groups[0][name] for name in ("betas", "eps"))
    mean, square = first * mean + (1 - first) * g, second * square + (1 - second) * g * g
    adam = mean / (1 - first ** (step + 1)) / ((square / (1 - second ** (step + 1))).sqrt() + eps)
    found = (g, mean, adam, clip_coordinates(g, 0.1), clip_coordinates(g, 0.5))
    return dict(zip(_DIRECTIONS, found, strict=True))


def _state(optimizer: Optimizer, name: str) -> Tensor:
    import torch

    parameters = optimizer.param_groups[0]["params"]
    return torch.cat([optimizer.state[p][name].flatten() for p in parameters])


def _findings(o: Options, rows: list[Row]) -> list[Finding]:
    gradient, adam, tenth, half = (
        _by_seed_and_step(rows, o.vocabulary, name)
        for name in ("gradient", "Adam", "clipped 10 %", "clipped 50 %")
    )
    ratio, few = (
        gradient / adam,
        _by_seed_and_step(rows, _FEW, "gradient") / _by_seed_and_step(rows, _FEW, "Adam"),
    )
    at = "steps 10, 100 and 300"
    findings = [
        in_every_seed("L24a", f"least s(gradient)/s(Adam) of {at}", ratio.min(1), low=1),
        in_the_median("L24a", f"s(gradient)/s(Adam), median of {at}", np.median(ratio, 1), 3, 13),
        in_every_seed(
            "L24b", f"largest s(clipped 10 %)/s(gradient) of {at}", (tenth / gradient).max(1), high=1
        ),
        in_the_mean("L24b", f"s(clipped 50 %)/s(clipped 10 %), mean of {at}", (half / tenth).mean(1), high=1),
    ]
    for k, step in enumerate(_STEPS[1:], start=1):
        note = (
            f"{o.vocabulary} tokens have {np.median(ratio[:, k]):.2g} at step {step}: fewer rare tokens do "
            f"lower the ratio; with {_FEW} it is {range_of(few[:, k])}, by seed"
        )
        statement = f"{_FEW} tokens: s(gradient)/s(Adam) at step {step}"
        findings.append(in_the_median("L24c", statement, few[:, k], 2, 3, note))
    return findings


def _by_seed_and_step(rows: list[Row], vocabulary: int, direction: str) -> np.ndarray:
    """s(v), float64 ``[seeds, steps]``."""
    found = [row["sharpness"] for row in select(rows, vocabulary=vocabulary, direction=direction)]
    return np.array(found).reshape(-1, len(_STEPS))


def draw(tables: Tables) -> dict[str, Figure]:
    """s(v) of each direction over steps, and the ratio s(gradient)/s(Adam) for many and few tokens."""
    rows = tables["sharpness"]
    many = max(row["vocabulary"] for row in rows)
    figure, (left, right) = panels(1, 2)
    for k, name in enumerate(_DIRECTIONS):
        _draw_mean(left, _by_seed_and_step(rows, many, name), k, name)
    finish(left, f"curvature along a direction, {many} tokens", "step", "vᵀHv/‖v‖²")
    for k, vocabulary in enumerate((many, _FEW)):
        ratio = _by_seed_and_step(rows, vocabulary, "gradient") / _by_seed_and_step(rows, vocabulary, "Adam")
        _draw_mean(right, ratio, k, f"{vocabulary} tokens")
    right.axhspan(3, 13, color=COLORS[0], alpha=0.1, linewidth=0, label=f"predicted median, {many} tokens")
    right.axhspan(
        2, 3, color=COLORS[1], alpha=0.1, linewidth=0, label=f"predicted from step 100, {_FEW} tokens"
    )
    right.axhline(1, color="black", linestyle="--", linewidth=1)
    finish(right, "s(gradient) / s(Adam's update)", "step", "ratio")
    right.set_ylim(0.8, 60)
    right.legend(fontsize=7.5, framealpha=0.9, loc="upper right")
    return {"directions": figure}


def _draw_mean(ax, values: np.ndarray, k: int, label: str) -> None:
    """The geometric mean over seeds with its interval, and the seeds."""
    logs = np.log(values)
    low, high = np.exp([t_interval(logs[:, j]) for j in range(len(_STEPS))]).T
    middle = np.exp(logs.mean(0))
    steps = np.array(_STEPS) * 1.04 ** (k - 2)  # side by side
    ax.errorbar(steps, middle, [middle - low, high - middle], color=COLORS[k], marker=MARKERS[k],
                markersize=4, capsize=3, linewidth=1.2, label=label)  # fmt: skip


_QUICK = (
    "a pre-LN transformer of width 32 and one block, 512 tokens by Zipf's law, Adam, 300 steps, five seeds"
)
_FULL = "transformers of the size of T5 and GPT-2 on translation and C4"


def _claim(
    identity: str, statement: str, prediction: str, shows: bool = True, other_seeds: str = ""
) -> Claim:
    source, config = "Pan & Li 2023, arXiv 2306.00204", "list/tiny_transformer.yaml"
    return Claim(
        identity, statement, source, "trained", prediction, _QUICK, _FULL, config, shows, other_seeds
    )


PAPER = Paper(
    "pan2023",
    "Pan & Li 2023, Toward understanding why Adam converges faster than SGD for transformers, "
    "arXiv 2306.00204",
    (
        Experiment(
            "directions",
            (
                _claim(
                    "L24a",
                    "on a transformer the gradient is a much sharper direction than Adam's update",
                    "s(gradient) > s(Adam) at steps 10, 100, 300 in every seed, median ratio 3 to 13",
                ),
                _claim(
                    "L24b",
                    "clipping the largest coordinates of the gradient makes it less sharp",
                    "s(clipped 10 %) < s(gradient) in every seed, clipped 50 % lower still in the mean",
                ),
                _claim(
                    "L24c",
                    "the more rare tokens, the larger the ratio",
                    "with 64 tokens 2 to 3 at steps 100 and 300",
                    shows=False,
                    other_seeds="with 2000 to 2004 it holds",
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
