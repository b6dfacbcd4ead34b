"""Loshchilov & Hutter 2016, SGDR: a cosine with warm restarts is good at the end of each of its cycles.

Some of the paper's headline numbers (3.14 % and 16.21 % on CIFAR) are those of ensembles of snapshots of a
WRN-28-10; one model has 3.74 % and 18.70 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, finish, panels, select
from sgdlit.papers.claim import EXACT, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import interval_of, mean_of, range_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

Array = np.ndarray


@dataclass
class Options:
    """SGD with warm restarts against one cosine of the same length.

    Symbols (Loshchilov & Hutter 2016, arXiv 1608.03983): T_i the length of cycle i, T_{i+1} = T_mult·T_i,
    η_t = η_min + ½(η_max − η_min)(1 + cos(πT_cur/T_i)).

    Args:
        seeds: of the networks.
        images: training images; each seed has others.
    """

    seeds: int = 20
    images: int = 10_000


_CYCLE, _CYCLES, _ENDS = 100, 3, (100, 300, 700)
_NETWORK_ENDS, _TOP, _BATCH, _BETA = (400, 1200, 2800), 0.2, 50, 0.9


def restarts(first: int, factor: int, steps: int, low: float, high: float) -> Array:
    """η of the steps 0 … ``steps`` − 1 with cycles of ``first``, ``factor·first``, … steps: float64."""
    rates: list[float] = []
    length = first
    while len(rates) < steps:
        rates += [low + 0.5 * (high - low) * (1 + math.cos(math.pi * t / length)) for t in range(length)]
        length *= factor
    return np.array(rates[:steps])


def cosine(steps: int, high: float) -> Array:
    """One cosine from ``high`` to 0."""
    return restarts(steps, 1, steps, 0.0, high)


def measure_quadratic(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``rates`` and ``risk``: over steps, of restarts, one cosine, and two constant rates."""
    from sgdlit.theory.noisy_quadratic import NoisyQuadratic
    from sgdlit.theory.recursion import risk_of_lrs

    steps, model = _ENDS[-1], NoisyQuadratic.power_law(100)
    schedules = {
        "restarts": restarts(_CYCLE, 2, steps, 0.0, 1.0),
        "one cosine": cosine(steps, 1.0),
        "constant 1": np.full(steps, 1.0),
        "constant 0.1": np.full(steps, 0.1),
    }
    risks = {name: risk_of_lrs(model, lrs.tolist(), 1.0) for name, lrs in schedules.items()}
    rows: list[Row] = [
        {"step": k, **{name: float(risk[k]) for name, risk in risks.items()}} for k in range(steps + 1)
    ]
    own, other = risks["restarts"], risks["one cosine"]
    ratios = [float(other[k] / own[k]) for k in _ENDS]
    peaks = [float(own[a:b].max() / own[a]) for a, b in pairwise(_ENDS)]
    largest = _distance_from_torchs()
    findings = [
        Finding("L8a", "largest distance of the rates from torch's schedule, relative to η_max",
                "< 1e-12", f"{largest:.1e}", largest < 1e-12, EXACT),
        *(Finding("L8b", f"risk of one cosine over that of restarts at step {k}", "> 2", f"{r:.2f}", r > 2,
                  EXACT)
          for k, r in zip(_ENDS[:2], ratios, strict=False)),
        Finding("L8b", "risk of restarts over that of one cosine at step 700", "1 to 2",
                f"{1 / ratios[2]:.2f}", 1 <= 1 / ratios[2] <= 2, EXACT),
        Finding("L8b", "highest risk within the second and the third cycle over the last end", "> 2",
                " and ".join(f"{p:.2f}" for p in peaks), all(p > 2 for p in peaks), EXACT),
    ]  # fmt: skip
    return Evidence({"risk": rows}, findings)


def _distance_from_torchs() -> float:
    import torch
    from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

    largest = 0.0
    for low, high in ((0.0, 1.0), (0.01, 0.3)):
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=high)
        schedule = CosineAnnealingWarmRestarts(optimizer, T_0=_CYCLE, T_mult=2, eta_min=low)
        for rate in restarts(_CYCLE, 2, _ENDS[-1], low, high):
            largest = max(largest, abs(float(optimizer.param_groups[0]["lr"]) - float(rate)) / high)
            optimizer.step()
            schedule.step()
    return largest


def draw_quadratic(tables: Tables) -> dict[str, Figure]:
    """Risk over steps."""
    figure, (ax,) = panels(1, 1, width=4.8, height=3.7)
    names = [name for name in tables["risk"][0] if name != "step"]
    for color, name in zip(COLORS, names, strict=False):
        ax.plot([r["step"] for r in tables["risk"]], [r[name] for r in tables["risk"]], color=color,
                label=name, linewidth=1.2)  # fmt: skip
    for k in _ENDS:
        ax.axvline(k, color="black", linewidth=0.8, linestyle=":")
    finish(ax, "noisy quadratic, exact; ends of cycles dotted", "step", "risk", log="y")
    return {"quadratic": figure}


# Networks


def measure_networks(o: Options, workshop: Workshop) -> Evidence:
    """Table ``networks``: test error at the ends of the cycles, by schedule and seed; and of the ensemble."""
    if workshop.data is None:
        return Evidence(notes=["networks: left out, since there is no folder of data sets (--data)"])
    import torch

    from sgdlit.papers.support import stacked_mlps
    from sgdlit.papers.support.fashion import fashion_14x14
    from sgdlit.theory.draws import numbered_generator

    images, classes = fashion_14x14(workshop.data, "train")
    test_images, test_classes = fashion_14x14(workshop.data, "test")
    steps = _NETWORK_ENDS[-1]
    both = np.stack([restarts(_NETWORK_ENDS[0], 2, steps, 0.0, _TOP), cosine(steps, _TOP)])
    rates = torch.from_numpy(both).float().repeat_interleave(o.seeds, 0)
    own = np.stack(
        [numbered_generator(seed, 3).permutation(len(images))[: o.images] for seed in range(o.seeds)]
    )
    chosen = torch.from_numpy(own).repeat(2, 1)
    parameters = stacked_mlps.he_normal([196, 100, 10], o.seeds, 2)
    buffers = [torch.zeros_like(p) for p in parameters]
    snapshots: list[Tensor] = []
    for step, index in enumerate(stacked_mlps.with_replacement(o.seeds, 2, o.images, _BATCH, steps)):
        index = chosen.gather(1, index)
        _, gradient = stacked_mlps.gradient(parameters, images[index], classes[index])
        for p, g, buffer in zip(parameters, gradient, buffers, strict=True):
            buffer.mul_(_BETA).add_(g)
            p.addcmul_(buffer, rates[:, step].view((-1,) + (1,) * (p.dim() - 1)), value=-1)
        if step + 1 in _NETWORK_ENDS:
            snapshots.append(stacked_mlps.probabilities(parameters, test_images))
            workshop.progress("steps", step + 1, steps)
    wrong = [(p.argmax(-1) != test_classes).double().mean(-1).numpy() for p in snapshots]
    mean = sum(p[: o.seeds] for p in snapshots) / len(snapshots)
    together = (torch.as_tensor(mean).argmax(-1) != test_classes).double().mean(-1).numpy()
    rows: list[Row] = [
        {"schedule": name, "step": step, "seed": s, "test_error": float(values[i * o.seeds + s])}
        for step, values in zip(_NETWORK_ENDS, wrong, strict=True)
        for i, name in enumerate(("restarts", "one cosine"))
        for s in range(o.seeds)
    ]
    rows += [
        {"schedule": "ensemble of three", "step": steps, "seed": s, "test_error": float(v)}
        for s, v in enumerate(together)
    ]
    return Evidence({"networks": rows}, _network_findings(rows))


def _column(rows: list[Row], schedule: str, step: int) -> Array:
    return np.array([r["test_error"] for r in select(rows, schedule=schedule, step=step)])


def _network_findings(rows: list[Row]) -> list[Finding]:
    first, last = _NETWORK_ENDS[0], _NETWORK_ENDS[-1]
    early = _column(rows, "one cosine", first) - _column(rows, "restarts", first)
    late = _column(rows, "restarts", last) - _column(rows, "one cosine", last)
    gain = _column(rows, "restarts", last) - _column(rows, "ensemble of three", last)
    return [
        Finding("L8c", f"test error of one cosine − restarts at step {first}", "> 0 in every seed",
                range_of(early), bool((early > 0).all()), interval_of(early)),
        Finding("L8c", f"test error of restarts − one cosine at step {last}", "0 ± 0.02 in the mean",
                f"{mean_of(late)}, {range_of(late)}", bool(abs(late.mean()) <= 0.02), interval_of(late)),
        Finding("L8c", "test error of the last snapshot − that of the mean of three", "> 0 in every seed",
                range_of(gain), bool((gain > 0).all()), interval_of(gain)),
        Finding("L8c", "the same", "0.005 to 0.03 in the mean", mean_of(gain),
                bool(0.005 <= gain.mean() <= 0.03), interval_of(gain)),
    ]  # fmt: skip


def draw_networks(tables: Tables) -> dict[str, Figure]:
    """Test error at the ends of the cycles."""
    if "networks" not in tables:
        return {}
    figure, (ax,) = panels(1, 1, width=4.8, height=3.7)
    rows = tables["networks"]
    for color, name in zip(COLORS, ("restarts", "one cosine", "ensemble of three"), strict=False):
        steps = sorted({r["step"] for r in select(rows, schedule=name)})
        values = [_column(rows, name, step) for step in steps]
        means = np.array([v.mean() for v in values])
        apart = [means - [v.min() for v in values], [v.max() for v in values] - means]
        ax.errorbar(steps, means, apart, marker="o", color=color, capsize=3, linewidth=1, label=name)
    finish(ax, "MLP on Fashion-MNIST 14×14, range over seeds", "step", "test error", log="")
    return {"networks": figure}


_SOURCE = "Loshchilov & Hutter 2016, arXiv 1608.03983"

PAPER = Paper(
    "loshchilov2016",
    "Loshchilov & Hutter 2016, SGDR: stochastic gradient descent with warm restarts, arXiv 1608.03983",
    (
        Experiment(
            "quadratic",
            (
                Claim(
                    "L8a",
                    "the schedule is a cosine that starts again after T_0, T_0·T_mult, … steps",
                    f"{_SOURCE}, equation 5",
                    "exact",
                    "equal to torch's CosineAnnealingWarmRestarts to rounding",
                    "T_0 = 100, T_mult = 2, 700 steps",
                    "the same",
                ),
                Claim(
                    "L8b",
                    "restarts are good at any time, at the ends of their cycles, at little cost at the end",
                    f"{_SOURCE}, section 4.1",
                    "exact",
                    "risk more than 2 times below one cosine's at steps 100 and 300, within 1 to 2 times of "
                    "it at 700; above twice the last end within a cycle",
                    "a noisy quadratic, h = c = 1/i in 100 dimensions, B = 1, η_max = 1",
                    "the same",
                ),
            ),
            measure_quadratic,
            draw_quadratic,
        ),
        Experiment(
            "networks",
            (
                Claim(
                    "L8c",
                    "so it is with networks, and snapshots at the ends of cycles make a free ensemble",
                    f"{_SOURCE}, sections 4.1 and 4.3",
                    "trained",
                    "lower test error at the end of the first cycle in every seed; within 0.02 at the end; "
                    "the ensemble of three below the last snapshot in every seed, 0.005 to 0.03 in the mean",
                    "an MLP 196–100–10 on 2000 images of Fashion-MNIST 14×14, 2800 steps, 10 seeds",
                    "10 000 images, 20 seeds; the paper's: WRN-28-10 on CIFAR-10, T_0 = 10 epochs",
                    "list/sgdr.yaml",
                ),
            ),
            measure_networks,
            draw_networks,
            needs_data=True,
        ),
    ),
    Options,
    {"seeds": 10, "images": 2000},
)
