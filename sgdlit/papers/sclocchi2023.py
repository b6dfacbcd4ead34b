"""Sclocchi, Geiger & Wyart 2023: SGD noise in distinct regimes, on a perceptron that stops at zero loss
(L26).

The time to zero loss grows about as P² for χ = 0, and varies much between runs: runs are cut at a number of
steps, and those that were cut are counted. The exponents in P are not yet asymptotic at these P.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Progress, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_the_mean, inside
from sgdlit.papers.support.slopes import log_slope, log_slopes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray

_D, _BATCH, _MARGIN, _CHECK = 16, 2, 1 / 128, 200
_CHI = (0, 1)


@dataclass
class Options:
    """A perceptron f = w·x/√d on P examples of two classes, hinge loss max(0, α − yf), from w = 0 (L26).

    Symbols (Sclocchi, Geiger & Wyart, arXiv 2301.13703): T = η/B the temperature, η the learning rate, χ the
    exponent of the density of examples at the boundary x₁ = 0, w₁ the informative weight and w_⊥ the others.

    Args:
        seeds: of data and visits, 0, 1, 2, ….
        examples: P, at T = 2.
        temperatures: T, at ``examples_of_temperatures``.
        examples_of_temperatures: P at which T varies.
        limit: steps after which a run is cut.
    """

    seeds: int = 10
    examples: list[int] = field(default_factory=lambda: [128, 256, 512, 1024, 2048, 4096])
    temperatures: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0, 4.0])
    examples_of_temperatures: int = 256
    limit: int = 4_000_000


@dataclass(frozen=True)
class _Run:
    chi: int
    temperature: float
    examples: int
    seed: int


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Table ``weights``: steps to zero loss, w₁ and ‖w_⊥‖ then, of each run."""
    settings = {(2.0, p) for p in o.examples} | {(t, o.examples_of_temperatures) for t in o.temperatures}
    runs = [_Run(c, t, p, s) for c in _CHI for t, p in sorted(settings) for s in range(o.seeds)]
    weights, steps = train_to_zero_loss(runs, o.limit, workshop.progress)
    rows: list[Row] = [
        {"chi": run.chi, "T": run.temperature, "P": run.examples, "seed": run.seed,
         "steps": int(k), "cut": bool(k >= o.limit), "informative": float(w[0]),
         "others": float(np.linalg.norm(w[1:]))}
        for run, w, k in zip(runs, weights, steps, strict=True)
    ]  # fmt: skip
    evidence = Evidence({"weights": rows})
    cut = sum(r["cut"] for r in rows)
    evidence.notes.append(f"weights: {cut} of {len(rows)} runs were cut at {o.limit} steps, as they are then")
    evidence.findings = _of_temperature(o, rows) + _of_examples(o, rows)
    return evidence


def train_to_zero_loss(runs: list[_Run], limit: int, progress: Progress) -> tuple[Array, Array]:
    """Weights ``[R, d]`` and steps ``[R]`` of runs that stop when every margin y·f is at least α.

    w ← w + (η/(B√d)) Σ_active yx over B examples drawn with replacement; checked every 200 steps.
    """
    from sgdlit.theory.draws import generator

    largest = max(run.examples for run in runs)
    signed = np.stack([_signed_examples(run, largest) for run in runs])  # yx/√d, [R, P, d]
    size = np.array([run.examples for run in runs])
    rate = np.array([[run.temperature] for run in runs])
    purpose = "depletion visits, χ = {0.chi}, T = {0.temperature}, P = {0.examples}"
    draws = [generator(run.seed, purpose.format(run)) for run in runs]
    weights, steps = np.zeros((len(runs), _D)), np.full(len(runs), limit)
    alive, here = np.arange(len(runs)), signed
    for step in range(0, limit, _CHECK):
        w, flat, offset = weights[alive], here.reshape(-1, _D), np.arange(len(alive))[:, None] * largest
        visits = np.stack([draws[r].integers(0, size[r], (_CHECK, _BATCH)) for r in alive], 1)
        _descend(w, flat, visits + offset, rate[alive])
        weights[alive] = w
        fitted = (here @ w[..., None])[..., 0].min(1) >= _MARGIN
        steps[alive[fitted]] = step + _CHECK
        if fitted.any():
            alive, here = alive[~fitted], here[~fitted]
        if step % 20_000 == 0:
            progress("runs at zero loss", len(runs) - len(alive), len(runs))
        if not len(alive):
            break
    return weights, steps


def _descend(w: Array, flat: Array, visits: Array, rate: Array) -> None:
    """Steps on the signed examples ``flat``, ``[R·P, d]``, that ``visits``, ``[steps, R, B]``, names."""
    for chosen in visits:
        z = flat[chosen]
        active = (z @ w[..., None])[..., 0] < _MARGIN
        if active.any():
            w += rate * (active[:, None, :] @ z)[:, 0]


def _signed_examples(run: _Run, rows: int) -> Array:
    """yx/√d of the stream's first P examples, ``[rows, d]``; where rows > P the first one is repeated."""
    import torch

    from sgdlit.data.depletion import Depletion

    data = Depletion(_D, run.chi, steps=1, dtype="float64", seed=run.seed)
    x, y = data.draw("train", torch.arange(run.examples))
    signed = (y[:, None] * x).numpy() / np.sqrt(_D)
    return np.concatenate([signed, np.repeat(signed[:1], rows - run.examples, 0)])


def _of_temperature(o: Options, rows: list[Row]) -> list[Finding]:
    findings = []
    for chi in _CHI:
        w = _by_seed(o, rows, chi, [(t, o.examples_of_temperatures) for t in o.temperatures])
        statement = f"χ = {chi}: exponent of w₁ in T at P = {o.examples_of_temperatures}"
        slopes = log_slopes(np.array(o.temperatures), w)
        findings.append(in_the_mean("L26a", statement, slopes.each, 0.94, 1.06))
    return findings


def _of_examples(o: Options, rows: list[Row]) -> list[Finding]:
    findings, found = [], {}
    bands = {0: (0.65, 1.05), 1: (0.28, 0.55)}
    for chi in _CHI:
        w = _by_seed(o, rows, chi, [(2.0, p) for p in o.examples])
        slope = found[chi] = float(log_slope(np.array(o.examples), w.mean(0)))
        ends = log_slopes(np.array(o.examples), w).interval
        interval = f"95 % of single seeds' mean exponent: {ends[0]:.3g} to {ends[1]:.3g}" if ends else "none"
        low, high = bands[chi]
        statement = f"χ = {chi}: exponent of w₁ in P, of the mean over {o.seeds} seeds"
        asymptotic = f"1/(1 + χ) = {1 / (1 + chi):g} asymptotically"
        holds = inside(slope, low, high)
        findings.append(
            Finding("L26b", statement, f"{low} to {high}", f"{slope:.3f}", holds, interval, asymptotic)
        )
    apart, wide = found[0] - found[1], found[0] - found[1] > 0.2
    statement = "exponent in P at χ = 0 less that at χ = 1"
    findings.append(Finding("L26b", statement, "> 0.2", f"{apart:.3f}", wide, "none: of the two above"))
    for chi in _CHI:
        settings = [(2.0, p) for p in o.examples]
        ratio = (_by_seed(o, rows, chi, settings) / _by_seed(o, rows, chi, settings, "others")).mean(0)
        grows = bool((np.diff(ratio) > 0).all())
        seen = ", ".join(f"{value:.3g}" for value in ratio)
        statement = f"χ = {chi}: mean w₁/‖w_⊥‖ over P = {', '.join(map(str, o.examples))}"
        findings.append(Finding("L26b", statement, "grows", seen, grows, "none: an order of means"))
    return findings


def _by_seed(
    o: Options, rows: list[Row], chi: int, settings: list[tuple[float, int]], column: str = "informative"
) -> Array:
    """A column for each seed and setting (T, P): ``[S, settings]``."""
    own = select(rows, chi=chi)
    return np.array([[select(own, T=t, P=p, seed=s)[0][column] for t, p in settings] for s in range(o.seeds)])


def draw(tables: Tables) -> dict[str, Figure]:
    """w₁ at zero loss over P and over T, each run and the mean."""
    figure, axes = panels(1, 2)
    rows = tables["weights"]
    for ax, over, title in zip(axes, ("P", "T"), ("training set (L26)", "temperature (L26)"), strict=True):
        fixed = "T" if over == "P" else "P"
        shared = 2.0 if over == "P" else _most_common(rows, "P")
        for i, chi in enumerate(_CHI):
            here = [r for r in rows if r["chi"] == chi and r[fixed] == shared]
            x = np.array(sorted({r[over] for r in here}))
            mean = np.array([np.mean([r["informative"] for r in here if r[over] == v]) for v in x])
            ax.plot(
                [r[over] for r in here], [r["informative"] for r in here], ".", color=COLORS[i], alpha=0.5
            )
            label = f"χ = {chi}: mean, exponent {log_slope(x, mean):.2f}"
            ax.plot(x, mean, MARKERS[i], color=COLORS[i], markersize=6, fillstyle="none", label=label)
            power = 1 / (1 + chi) if over == "P" else 1.0
            line = mean[-1] * (x / x[-1]) ** power
            ax.plot(x, line, "--", color=COLORS[i], linewidth=1.2, label=f"∝ {over}^{power:g}, asymptotic")
        finish(ax, title, "examples P, at T = 2" if over == "P" else f"T = η/B, at P = {shared}",
               "w₁ at zero training loss")  # fmt: skip
    return {"perceptron": figure}


def _most_common(rows: list[Row], column: str) -> float:
    values = [r[column] for r in rows]
    return max(set(values), key=values.count)


_SOURCE = "Sclocchi, Geiger & Wyart 2023, arXiv 2301.13703"
_QUICK = (
    "d = 16, α = 1/128, B = 2, checked every 200 steps, cut at 400 000; P = 128 … 1024 at T = 2, T = 0.5 … "
    "4 at "
    "P = 256; χ = 0 and 1; 5 seeds"
)
_FULL = (
    "the same with P to 4096 here; as the sweep, P to 32 768. The paper: a fully connected net 5 × 128 on "
    "the parity of "
    "MNIST, a CNN on the animals of CIFAR-10, and the phase diagram"
)
_CONFIG = "list/depletion_perceptron.yaml"

PAPER = Paper(
    "sclocchi2023",
    "Sclocchi, Geiger & Wyart 2023, Dissecting the effects of SGD noise in distinct regimes of deep "
    "learning, "
    "arXiv 2301.13703",
    (
        Experiment(
            "perceptron",
            (
                Claim(
                    "L26a",
                    "the informative weight of a perceptron that stops at zero loss grows ∝ T = η/B",
                    f"{_SOURCE}, section 3",
                    "trained",
                    "exponent 1 ± 0.06 in the mean over seeds",
                    _QUICK,
                    _FULL,
                    _CONFIG,
                    other_seeds="with 2000 to 2004 the mean exponent at χ = 1 is 0.933 [0.80, 1.07]",
                ),
                Claim(
                    "L26b",
                    "it grows as P^(1/(1 + χ)) with the training set, χ the exponent of the density at the "
                    "boundary",
                    f"{_SOURCE}, section 3",
                    "trained",
                    "exponents of mean curves 0.65–1.05 for χ = 0, 0.28–0.55 for χ = 1, apart by more than "
                    "0.2; "
                    "w₁/‖w_⊥‖ grows",
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
    {"seeds": 5, "examples": [128, 256, 512, 1024], "limit": 400_000},
)
