"""Wang et al. 2023: at a small effective rate momentum changes nothing; it extends the range of stable rates.

SGDM with the rate η(1 − β) is compared with SGD at η; without the factor 1 − β the effective rates differ by
ten, and the comparison says nothing about momentum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, finish, panels, select
from sgdlit.papers.claim import EXACT, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import all_seeds, interval_of, range_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sgdlit.theory.noisy_quadratic import NoisyQuadratic

Array = np.ndarray


@dataclass
class Options:
    """SGDM(η(1 − β), β = 0.9) against SGD(η).

    Symbols (Wang et al. 2023, arXiv 2307.15196): η the effective learning rate, β the momentum, h the
    curvatures, σ² the gradient noise of a step; time is ηt.

    Args:
        seeds: of the networks.
        images: training images; each seed has others.
        steps: of the networks.
    """

    seeds: int = 10
    images: int = 6000
    steps: int = 3000


_BETA, _D, _SIGMA = 0.9, 20, 0.5
_LRS = (0.8, 0.4, 0.2, 0.1, 0.05)
_SETTINGS = {32: (0.01, 0.03, 0.1, 0.3, 1.0), 512: (0.1, 0.3, 1.0, 2.0)}
_LAST = 200


def _model() -> NoisyQuadratic:
    from sgdlit.theory.noisy_quadratic import NoisyQuadratic

    return NoisyQuadratic(np.geomspace(1, 0.01, _D), np.full(_D, _SIGMA**2), np.ones(_D))


def stationary_ratio(h: Array, lr: float, beta: float) -> float:
    """Σ 1/(2 − ηh(1 − β)/(1 + β)) / Σ 1/(2 − ηh): stationary risk of SGDM(η(1 − β)) over that of SGD(η)."""
    return float((1 / (2 - lr * h * (1 - beta) / (1 + beta))).sum() / (1 / (2 - lr * h)).sum())


def steps_per_e(h: Array, beta: float) -> float:
    """Steps of heavy ball without noise that the error needs to fall by e, at the best of many rates."""
    lrs = np.geomspace(1e-3, 2 * (1 + beta), 4001)[:-1, None] / h.max()
    middle = (1 + beta - lrs * h) / 2
    root = np.sqrt((middle**2 - beta).astype(complex))
    radius = np.maximum(abs(middle + root), abs(middle - root)).max(1)
    return float(-1 / np.log(radius.min()))


def measure_quadratic(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``stationary``: the ratio of risks over η; ``risk``: both risks over time at η = 0.1."""
    from sgdlit.theory.recursion import risk_of_lrs

    model, evidence = _model(), Evidence({"stationary": [], "risk": []})
    ratios, apart = [], {}
    for lr in _LRS:
        steps = round(600 / lr)  # (1 − ηh)^(2·600/η) = e^−12 in the flattest direction
        sgd = risk_of_lrs(model, [lr] * steps, 1.0)
        with_momentum = risk_of_lrs(model, [lr * (1 - _BETA)] * steps, 1.0, _BETA)
        predicted = stationary_ratio(model.curvature, lr, _BETA)
        ratios.append(float(with_momentum[-1] / sgd[-1]))
        evidence.tables["stationary"].append({"eta": lr, "ratio": ratios[-1], "predicted": predicted})
        late = slice(round(5 / lr), None)
        apart[lr] = float(np.abs(with_momentum[late] / sgd[late] - 1).max())
        if lr == 0.1:
            evidence.tables["risk"] += _curves(lr, sgd, with_momentum)
        workshop.progress("rates", len(ratios), len(_LRS))
    rows = evidence.tables["stationary"]
    worst = max(abs(r["ratio"] / r["predicted"] - 1) for r in rows)
    halvings = np.log2((1 - np.array(ratios))[:-1] / (1 - np.array(ratios))[1:])
    small = max(value for lr, value in apart.items() if lr <= 0.1)
    plain, heavy = steps_per_e(model.curvature, 0.0), [steps_per_e(model.curvature, b) for b in (0.5, 0.9)]
    evidence.findings = [
        Finding("L34a", "stationary risks, SGDM over SGD: recursion against the formula, relative", "< 1e-4",
                f"{worst:.1e}", worst < 1e-4, EXACT),
        Finding("L34a", "log₂ of how 1 − ratio falls when η is halved, mean over four halvings", "1.0 ± 0.1",
                f"{halvings.mean():.3f}", bool(abs(halvings.mean() - 1) <= 0.1), EXACT,
                f"from η = {_LRS[0]:g} down: {', '.join(f'{h:.2f}' for h in halvings)}"),
        Finding("L34a", "largest distance of the risk curves from time 5 on, η ≤ 0.1", "≤ 5 %",
                f"{small:.2%}", small <= 0.05, EXACT),
        Finding("L34a", "without noise, best rates: steps of SGD over steps with β = 0.5 and 0.9", "> 2",
                " and ".join(f"{plain / own:.2f}" for own in heavy), all(plain / own > 2 for own in heavy),
                "none: exact, at the best of a grid of rates"),
    ]  # fmt: skip
    return evidence


def _curves(lr: float, sgd: Array, with_momentum: Array) -> list[Row]:
    steps = np.unique(np.geomspace(1, len(sgd) - 1, 120).astype(int))
    return [
        {"time": float(lr * k), "sgd": float(sgd[k]), "sgdm": float(with_momentum[k])} for k in steps.tolist()
    ]


def draw_quadratic(tables: Tables) -> dict[str, Figure]:
    """1 − ratio over η with the formula's line; both risks over time."""
    figure, (left, right) = panels(1, 2)
    rows = tables["stationary"]
    eta = [r["eta"] for r in rows]
    left.plot(eta, [1 - r["predicted"] for r in rows], color=COLORS[0], label="formula")
    left.plot(eta, [1 - r["ratio"] for r in rows], MARKERS[0], color=COLORS[1], label="exact recursion")
    finish(left, "stationary risk, β = 0.9", "effective rate η", "1 − SGDM/SGD")
    left.set_xticks(eta, [f"{v:g}" for v in eta])
    left.minorticks_off()
    time = [r["time"] for r in tables["risk"]]
    right.plot(time, [r["sgd"] for r in tables["risk"]], color=COLORS[0], label="SGD")
    right.plot(time, [r["sgdm"] for r in tables["risk"]], "--", color=COLORS[1], label="SGDM")
    right.axvline(5, color="black", linewidth=1, linestyle=":", label="time 5")
    finish(right, "noisy quadratic, η = 0.1", "time ηt", "risk")
    return {"quadratic": figure}


# Networks


def measure_networks(o: Options, workshop: Workshop) -> Evidence:
    """Table ``networks``: training loss at the end and test error over η, by batch size, rule and seed."""
    if workshop.data is None:
        return Evidence(notes=["networks: left out, since there is no folder of data sets (--data)"])
    import torch

    from sgdlit.papers.support import stacked_mlps
    from sgdlit.papers.support.fashion import fashion_14x14
    from sgdlit.theory.draws import numbered_generator

    images, classes = fashion_14x14(workshop.data, "train")
    test_images, test_classes = fashion_14x14(workshop.data, "test")
    chosen = np.stack(
        [numbered_generator(seed, 3).permutation(len(images))[: o.images] for seed in range(o.seeds)]
    )
    rows: list[Row] = []
    for batch_size, lrs in _SETTINGS.items():
        settings = [(lr, b) for lr in lrs for b in (0.0, _BETA)]
        runs = len(settings) * o.seeds
        own = torch.from_numpy(chosen).repeat(len(settings), 1)
        lr = torch.tensor([eta * (1 - b) for eta, b in settings]).repeat_interleave(o.seeds)
        beta = torch.tensor([b for _, b in settings]).repeat_interleave(o.seeds)
        parameters = stacked_mlps.he_normal([196, 100, 10], o.seeds, len(settings))
        buffers, total = [torch.zeros_like(p) for p in parameters], torch.zeros(runs)
        seen = stacked_mlps.with_replacement(o.seeds, len(settings), o.images, batch_size, o.steps)
        for step, index in enumerate(seen):
            if step % 50 == 0:
                workshop.progress(f"steps at B = {batch_size}", step, o.steps)
            index = own.gather(1, index)
            losses, gradient = stacked_mlps.gradient(parameters, images[index], classes[index])
            for p, g, buffer in zip(parameters, gradient, buffers, strict=True):
                like = (-1,) + (1,) * (p.dim() - 1)
                buffer.mul_(beta.view(like)).add_(g)
                p.addcmul_(buffer, lr.view(like), value=-1)
            if step >= o.steps - _LAST:
                total += losses / _LAST
        wrong = stacked_mlps.errors(parameters, test_images, test_classes)
        for k, (eta, b) in enumerate(settings):
            rows += [
                {"batch_size": batch_size, "eta": eta, "momentum": b, "seed": s,
                 "loss": float(total[k * o.seeds + s]), "test_error": float(wrong[k * o.seeds + s])}
                for s in range(o.seeds)
            ]  # fmt: skip
    return Evidence({"networks": rows}, _network_findings(rows))


def _pairs(rows: list[Row], batch_size: int, eta: float, column: str) -> tuple[Array, Array]:
    """A column of SGD and of SGDM, ``[seeds]`` each; infinite where it is no number."""
    both = [
        np.array([r[column] for r in select(rows, batch_size=batch_size, eta=eta, momentum=b)])
        for b in (0.0, _BETA)
    ]
    sgd, sgdm = (np.where(np.isfinite(own), own, np.inf) for own in both)
    return sgd, sgdm


def _network_findings(rows: list[Row]) -> list[Finding]:
    found = []
    for eta in _SETTINGS[32][:3]:
        sgd, sgdm = _pairs(rows, 32, eta, "loss")
        ratio = sgdm / sgd
        found.append(
            Finding("L34b", f"B = 32, η = {eta:g}: training loss of SGDM over SGD", "1 ± 0.05 in the mean",
                    range_of(ratio), bool(abs(ratio.mean() - 1) <= 0.05), interval_of(ratio))
        )  # fmt: skip
        sgd, sgdm = _pairs(rows, 32, eta, "test_error")
        gap = sgdm - sgd
        found.append(
            Finding("L34b", f"B = 32, η = {eta:g}: test error of SGDM − SGD", "0 ± 0.01 in the mean",
                    range_of(gap), bool(abs(gap.mean()) < 0.01), interval_of(gap))
        )  # fmt: skip
    for batch_size, eta, words, least in ((32, 1.0, "> 1", 1.0), (512, 1.0, "> 1 in the mean", None),
                                          (512, 2.0, "> 2", 2.0)):  # fmt: skip
        sgd, sgdm = _pairs(rows, batch_size, eta, "loss")
        ratio = sgd / sgdm
        holds = bool(ratio.mean() > 1) if least is None else bool((ratio > least).all())
        statement = f"B = {batch_size}, η = {eta:g}: training loss of SGD over SGDM"
        predicted = words if least is None else f"{words} in every seed"
        interval = interval_of(ratio) if np.isfinite(ratio).all() else all_seeds(ratio)
        found.append(Finding("L34b", statement, predicted, range_of(ratio), holds, interval))
    return found


def draw_networks(tables: Tables) -> dict[str, Figure]:
    """Training loss and test error over η, by batch size."""
    if "networks" not in tables:
        return {}
    rows = tables["networks"]
    figure, axes = panels(1, 2)
    for i, (batch_size, lrs) in enumerate(_SETTINGS.items()):
        for momentum, line in ((0.0, "-"), (_BETA, "--")):
            for ax, column in zip(axes, ("loss", "test_error"), strict=True):
                values = [
                    np.array(
                        [r[column] for r in select(rows, batch_size=batch_size, eta=eta, momentum=momentum)]
                    )
                    for eta in lrs
                ]
                means = [float(v.mean()) if np.isfinite(v).all() else np.nan for v in values]
                ax.plot(lrs, means, line, color=COLORS[i], marker=MARKERS[i], markersize=4,
                        label=f"{'SGDM' if momentum else 'SGD'}, B = {batch_size}")  # fmt: skip
    finish(axes[0], "MLP on Fashion-MNIST 14×14", "effective rate η", "training loss of the last 200 steps")
    finish(axes[1], "MLP on Fashion-MNIST 14×14", "effective rate η", "test error", log="x", legend=False)
    return {"networks": figure}


_SOURCE = "Wang, Malladi, Wang, Lyu & Li 2023, arXiv 2307.15196"

PAPER = Paper(
    "wang2023",
    "Wang et al. 2023, The marginal value of momentum for small learning rate SGD, arXiv 2307.15196",
    (
        Experiment(
            "quadratic",
            (
                Claim(
                    "L34a",
                    "SGDM(η(1 − β), β) and SGD(η) have the same risk as η goes to 0; without noise, at their "
                    "best rates, momentum needs fewer steps",
                    f"{_SOURCE}, theorem 3.5 and section 4; exact second moments (F8)",
                    "exact",
                    "the ratio of the formula, whose distance from 1 halves with η; curves within 5 % at "
                    "η ≤ 0.1; more than 2 times fewer steps with β ≥ 0.5",
                    "20 curvatures from 1 to 0.01, σ = 0.5, β = 0.9, η = 0.8 to 0.05",
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
                    "L34b",
                    "networks trained with small batches end alike with and without momentum up to the rates "
                    "at which SGD becomes unstable",
                    f"{_SOURCE}, section 5",
                    "trained",
                    "B = 32, η ≤ 0.1: losses within 5 %, test errors within 0.01; lower loss of SGDM at "
                    "η = 1 in every seed; at B = 512 lower from η = 1 on, decisive (half) at 2",
                    "an MLP 196–100–10 on 4000 images of Fashion-MNIST 14×14, 1500 steps, 5 seeds",
                    "6000 images, 3000 steps, 10 seeds; the paper's: ResNet-50 on ImageNet, RoBERTa",
                    "list/momentum.yaml",
                ),
            ),
            measure_networks,
            draw_networks,
            needs_data=True,
        ),
    ),
    Options,
    {"seeds": 5, "images": 4000, "steps": 1500},
)
