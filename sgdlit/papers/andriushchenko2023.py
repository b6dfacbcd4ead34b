"""Andriushchenko et al. 2023: SGD with a large rate, held for long, learns sparse features (L4).

Where training is stable depends on the draw of the data: of ten draws all are stable at a rate of 0.22, about
half at 0.24, and two or three at 0.25 to 0.27. Labels have no noise, and there is no regularizer.
Neighbouring rates can end so near that the order of visits decides: with these visits seed 8 ends 2 % higher
at 0.15 than at 0.1, with the visits of ``fit`` on the same data 18 % lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Progress, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import band, in_every_seed, in_most_seeds, inside, range_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray

_N, _D, _NONZERO, _TEST = 80, 200, 20, 1000
_START, _TAU = 0.1, 1e-3
_CURVE = 120  # points of the training loss
_RATES = (0.05, 0.1, 0.15, 0.2, 0.22)
_HELD = (0.01, 0.05, 0.4)


@dataclass
class Options:
    """A diagonal linear network β = u ⊙ v on a sparse teacher, B = 1, visits with replacement (L4).

    Symbols (Andriushchenko et al., arXiv 2210.05337): N = 80 examples, d = 200 inputs, 20 coefficients of the
    teacher are not zero; the support is the number of |β_i| > 0.001.

    Args:
        seeds: of data and visits, 0, 1, 2, ….
        steps: of each run.
    """

    seeds: int = 10
    steps: int = 60_000


class _Setting(NamedTuple):
    """A rate that is held for a part of training, and the rate after it."""

    rate: float
    held: float
    then: float


_SETTINGS = [_Setting(r, 0.5, 0.1) for r in _RATES] + [_Setting(0.22, h, 0.05) for h in _HELD]


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``runs``: test loss, support and plateau of each; ``curves``: training losses of seed 0."""
    if o.steps < 10 * _CURVE:
        raise UserError(f"steps = {o.steps}: must be at least {10 * _CURVE}")
    data = [_examples(seed) for seed in range(o.seeds)]
    beta, curves = train(data, _SETTINGS, o.steps, workshop.progress)
    at = np.arange(_CURVE + 1) * (o.steps // _CURVE)
    plateau = curves[:, :, (at >= 0.05 * o.steps) & (at <= 0.1 * o.steps)].mean(-1)
    rows: list[Row] = [
        {"seed": seed, **setting._asdict(), "test_loss": _loss(beta[seed, k], *data[seed][1]),
         "support": int((abs(beta[seed, k]) > _TAU).sum()), "plateau": float(plateau[seed, k])}
        for seed in range(o.seeds)
        for k, setting in enumerate(_SETTINGS)
    ]  # fmt: skip
    shown: list[Row] = [
        {**setting._asdict(), "step": int(t), "train_loss": float(curves[0, k, j])}
        for k, setting in enumerate(_SETTINGS)
        for j, t in enumerate(at)
    ]
    return Evidence({"runs": rows, "curves": shown}, _judge_rates(rows) + _judge_held(rows, o.seeds))


def _examples(seed: int) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Training and test examples, as ``fit`` has them with this seed."""
    import torch

    from sgdlit.data.teachers import LinearTeacher

    data = LinearTeacher(_D, nonzero=_NONZERO, steps=1, dtype="float64", seed=seed)
    x, y = data.draw("train", torch.arange(_N))
    there, value = data.draw("test", torch.arange(_TEST))
    return (x.numpy(), y.numpy()), (there.numpy(), value.numpy())


def train(
    data: list[tuple[tuple[Array, Array], tuple[Array, Array]]],
    settings: list[_Setting],
    steps: int,
    progress: Progress,
) -> tuple[Array, Array]:
    """β ``[S, K, d]`` of K settings on each of S sets of examples, and training losses ``[S, K, curve]``.

    The runs of one seed visit the same examples in the same order.
    """
    from sgdlit.theory.draws import generator

    x = np.stack([training[0] for training, _ in data])
    y = np.stack([training[1] for training, _ in data])
    seeds, each = np.arange(len(data)), steps // _CURVE
    rates = np.array([[s.rate if t < s.held * steps else s.then for s in settings] for t in range(steps)])
    draws = [generator(seed, "large rates, visits") for seed in range(len(data))]
    u = np.full((len(data), len(settings), _D), _START)
    v, losses = np.zeros_like(u), []
    for t in range(steps):
        if t % each == 0:
            losses.append(_losses(u * v, x, y))
            visits = np.stack([draw.integers(0, _N, each) for draw in draws], 1)
            progress("steps", t, steps)
        chosen = visits[t % each]
        here = x[seeds, chosen][:, None, :]
        product = u * v
        residual = (product @ here[..., 0, :, None])[..., 0] - y[seeds, chosen][:, None]
        step = (rates[t] * residual)[..., None] * here
        u, v = u - step * v, v - step * u
    losses.append(_losses(u * v, x, y))
    return u * v, np.stack(losses, -1)


def _losses(beta: Array, x: Array, y: Array) -> Array:
    """½ mean (xᵀβ − y)²: ``[S, K]``."""
    with np.errstate(over="ignore", invalid="ignore"):
        return 0.5 * ((beta @ x.transpose(0, 2, 1) - y[:, None, :]) ** 2).mean(-1)


def _loss(beta: Array, x: Array, y: Array) -> float:
    return 0.5 * float(((x @ beta - y) ** 2).mean())


def _column(rows: list[Row], name: str, rate: float, then: float = 0.1, held: float = 0.5) -> Array:
    """A column over seeds at one setting."""
    return np.array([r[name] for r in select(rows, rate=rate, then=then, held=held)])


def _judge_rates(rows: list[Row]) -> list[Finding]:
    tests = np.stack([_column(rows, "test_loss", rate) for rate in _RATES])
    change = np.diff(tests[:4], axis=0) / tests[:3]
    rises = [f"seed {s} from {_RATES[k]} to {_RATES[k + 1]}" for k, s in np.argwhere(change >= 0)]
    where = f"rises in {len(rises)} of {change.size}: {', '.join(rises)}"
    note = f"{where}; so near each other the order of visits decides" if rises else ""
    over = tests[4] / tests[0]
    middle = float(np.median(tests[4]) / np.median(tests[0]))
    small, large = (_column(rows, "support", rate) for rate in (0.05, 0.22))
    plateau = _column(rows, "plateau", 0.22) / _column(rows, "plateau", 0.1)
    spread = "none: of medians over seeds"
    rates, at_large = "0.05, 0.1, 0.15, 0.2", f"median support at 0.22, where the truth has {_NONZERO}"
    level = "mean training loss between 5 and 10 % of training at 0.22 over that at 0.1"
    few, many = float(np.median(small)), float(np.median(large))
    return [
        in_every_seed(
            "L4e", f"largest relative change of the test loss in {rates}", change.max(0), high=0, note=note
        ),
        Finding(
            "L4a",
            "median test loss at 0.22 over that at 0.05",
            "< 0.25",
            f"{middle:.3f}",
            middle < 0.25,
            spread,
        ),
        in_every_seed("L4a", "test loss at 0.22 over that at 0.05", over, high=2 / 3),
        Finding(
            "L4b", "median support at 0.05", band(low=160), f"{few:g}", inside(few, low=160), _range(small)
        ),
        Finding("L4b", at_large, band(high=115), f"{many:g}", inside(many, high=115), _range(large)),
        in_every_seed("L4c", level, plateau, low=4),
    ]


def _range(values: Array) -> str:
    return f"none: a median; {len(values)} seeds lie in {range_of(values)}"


def _judge_held(rows: list[Row], seeds: int) -> list[Finding]:
    tests, support = (
        np.stack([_column(rows, name, 0.22, 0.05, held) for held in _HELD])
        for name in ("test_loss", "support")
    )
    better = np.asarray((tests[1:] < tests[:-1]).all(0))
    sparser = np.asarray((support[1:] <= support[:-1]).all(0))
    held = "0.22 held for 1, 5, 40 %"
    return [
        in_most_seeds("L4d", f"{held}: test loss falls from each to the next", better, -(-8 * seeds // 10)),
        in_most_seeds(
            "L4d", f"{held}: support does not grow from any to the next", sparser, -(-6 * seeds // 10)
        ),
    ]


def draw(tables: Tables) -> dict[str, Figure]:
    """Training loss of one seed; test loss and support over the rate, and over how long it is held."""
    rows, curves = tables["runs"], tables["curves"]
    figure, axes = panels(2, 2)
    for i, shown in enumerate((0.05, 0.1, 0.22)):
        curve = select(curves, rate=shown, then=0.1)
        label = f"{shown:g} for the first half, then 0.1"
        losses = [r["train_loss"] for r in curve]
        axes[0].plot([r["step"] for r in curve], losses, color=COLORS[i], linewidth=1, label=label)
    end = max(r["step"] for r in curves)
    axes[0].axvspan(0.05 * end, 0.1 * end, color="grey", alpha=0.2, label="plateau is measured here")
    axes[0].set_ylim(bottom=1e-13)
    finish(axes[0], "training loss, seed 0 (L4c)", "step", "½ mean (xᵀβ − y)²", log="y")
    over_rate, over_held = ([r for r in rows if r["then"] == then] for then in (0.1, 0.05))
    rate, held = "rate of the first half, then 0.1", "part of the steps at 0.22, then 0.05"
    for ax, chosen, x, label, name, title in (
        (axes[1], over_rate, "rate", rate, "test_loss", "test loss (L4a)"),
        (axes[2], over_rate, "rate", rate, "support", "support (L4b)"),
        (axes[3], over_held, "held", held, "test_loss", "test loss (L4d)"),
    ):
        _points(ax, chosen, x, name)
        if name == "support":
            ax.axhline(_NONZERO, color="black", linestyle="--", linewidth=1, label="the truth")
            ax.set_ylim(0, _D)
        log = ("x" if x == "held" else "") + ("y" if name == "test_loss" else "")
        finish(ax, title, label, title.partition(" (")[0], log=log)
    return {"large_rates": figure}


def _points(ax: Axes, rows: list[Row], x: str, name: str) -> None:
    """A column of every seed, and the median, over x."""
    for k, seed in enumerate(distinct(rows, "seed")):
        own = sorted(select(rows, seed=seed), key=lambda r: r[x])
        ax.plot([r[x] for r in own], [r[name] for r in own], "o-", color=COLORS[0], alpha=0.35, markersize=3,
                linewidth=0.8, label="each seed" if k == 0 else None)  # fmt: skip
    values = sorted(set(distinct(rows, x)))
    middle = [np.median([r[name] for r in rows if r[x] == value]) for value in values]
    ax.plot(values, middle, "s-", color=COLORS[1], markersize=5, label="median")


_SOURCE = "Andriushchenko, Varre, Pillaud-Vivien & Flammarion 2023, arXiv 2210.05337"
_QUICK = (
    "diagonal net, N = 80, d = 200, 20 non-zeros, u₀ = 0.1, v₀ = 0, B = 1 with replacement, 60 000 steps: "
    "0.05, 0.1, "
    "0.15, 0.2, 0.22 for the first half, then 0.1; 0.22 for 1, 5, 40 %, then 0.05; 10 draws of the data"
)
_FULL = (
    "the same as runs of fit. The paper: ResNet-18, CIFAR-10 and 100, B = 256, 100 epochs, rate 0.75 held "
    "for a varying "
    "number of epochs after exponential warm-up against 0.01, and with momentum, decay and augmentation 0.05 "
    "against 0.002; sparsity and rank of the features fall with the time at the large rate"
)
_CONFIG = "list/large_rates.yaml"


def _claim(
    identity: str, statement: str, prediction: str, shows: bool = True, other_seeds: str = ""
) -> Claim:
    source = f"{_SOURCE}, section 3"
    return Claim(
        identity, statement, source, "trained", prediction, _QUICK, _FULL, _CONFIG, shows, other_seeds
    )


PAPER = Paper(
    "andriushchenko2023",
    "Andriushchenko et al. 2023, SGD with large step sizes learns sparse features, arXiv 2210.05337",
    (
        Experiment(
            "large_rates",
            (
                _claim(
                    "L4a",
                    "a large rate in the first half of training ends better",
                    "test loss at 0.22 below a quarter of that at 0.05 in the median, below two thirds in "
                    "every seed",
                    other_seeds="of 1000 to 1009 one is at 0.96, not below two thirds",
                ),
                _claim("L4b", "and sparser", "median support above 160 at 0.05, below 115 at 0.22"),
                _claim(
                    "L4c",
                    "meanwhile it keeps the training loss on a plateau",
                    "above 4 times that of 0.1 at 0.22, in every seed",
                ),
                _claim(
                    "L4d",
                    "the longer the large rate is held the better",
                    "lower test loss in 8 of 10 seeds, support not larger in 6 of 10",
                ),
                _claim(
                    "L4e",
                    "the test loss falls with each larger rate of the first half, in every draw of the data",
                    "strictly over 0.05, 0.1, 0.15, 0.2 in every seed",
                    shows=False,
                    other_seeds="with 1000 to 1009, and with 2000 to 2009, it holds",
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
