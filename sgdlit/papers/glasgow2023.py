"""Glasgow 2023: two-layer ReLU networks find XOR from a stream with about linearly many samples in d.

X1 counts samples at one batch size from He's initialisation. L1 is the paper's setting: both layers start
small, the batch grows with d, and the signal is found while outputs are small; He's initialisation and biases
learn too, but skip that phase.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, finish, panels
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import axis, fresh_seeds, in_words
from sgdlit.papers.support.seed_findings import in_every_seed, in_the_mean
from sgdlit.papers.support.slopes import log_slopes
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

_DIMENSIONS, _BATCH_SIZE, _TARGET = (10, 20, 40, 80), 16, 0.99
_TEST_SIZE = {True: 2000, False: 10_000}
_SEEDS = {True: 4, False: 16}
_STOP = """[{class_path: sgdlit.training.stop_at_target.StopAtTarget,
             init_args: {metric: test/accuracy, at_least: 0.99}}]"""


@dataclass
class Options:
    """Two-layer ReLU networks on y = −x_i·x_j (X1 as in its config; L1 here).

    Symbols (Glasgow, arXiv 2309.15111): d the dimension, p = 64 neurons w_k with weights a_k, f the mean of
    a_k·relu(w_k·x) over them, θ = 1/ln² d the size of both at the start.

    Args:
        dimensions: d of L1.
        seeds: of L1, 0, 1, 2, ….
        control: d at which the first layer is frozen.
    """

    dimensions: list[int] = field(default_factory=lambda: [20, 40, 80, 160, 320, 640])
    seeds: int = 10
    control: int = 80


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``samples``, a row per network, and ``means``."""
    rows: list[Row] = []
    count = _SEEDS[workshop.quick]
    for i, d in enumerate(_DIMENSIONS):
        folder = workshop.fit(
            f"xor_{d}", "teachers/xor.yaml", "--data.d", str(d), "--data.steps", "1250",
            "--data.test_size", str(_TEST_SIZE[workshop.quick]), "--model.network.widths", f"[{d},64,1]",
            "--model.network.bias", "false", "--trainer.val_check_interval", "5",
            "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
            "--trainer.callbacks", _STOP,
            "--ensemble", f"[{axis(count)}]",
        )  # fmt: skip
        for seed, member in zip(fresh_seeds(count), load_run(folder).members, strict=True):
            steps, accuracy = member.columns["test/accuracy"]
            reached = steps[accuracy >= _TARGET]
            samples = int(reached[0]) * _BATCH_SIZE if len(reached) else None
            rows.append({"d": d, "seed": seed, "samples": samples})
        workshop.progress("dimensions", i + 1, len(_DIMENSIONS))
    evidence = Evidence({"samples": rows}, seeds=in_words(count))
    if any(row["samples"] is None for row in rows):
        statement, found = "networks that reach 99 % accuracy in 20 000 samples", "not all"
        evidence.findings.append(Finding("X1", statement, "all", found, False, "none: a count"))
        return evidence
    _judge(evidence, rows)
    return evidence


def _judge(evidence: Evidence, rows: list[Row]) -> None:
    dimensions = np.array(_DIMENSIONS)
    means = np.array([np.mean([r["samples"] for r in rows if r["d"] == d]) for d in _DIMENSIONS])
    line = np.polyval(np.polyfit(dimensions, means, 1), dimensions)
    explained = 1 - np.var(means - line) / np.var(means)
    exponent = np.polyfit(np.log(dimensions), np.log(means), 1)[0]
    evidence.tables["means"] = [
        {"d": d, "samples": float(m), "line": float(p)}
        for d, m, p in zip(_DIMENSIONS, means, line, strict=True)
    ]
    interval = f"none: a fit to means of {len(rows) // len(_DIMENSIONS)} seeds at four dimensions"
    share = "share of the variance of the mean samples to 99 % that a straight line in d explains"
    power = "mean samples to 99 % as a power of d"
    evidence.findings += [
        Finding("X1", share, "> 0.97", f"{explained:.3f}", bool(explained > 0.97), interval),
        Finding("X1", power, "0.65 to 1.2", f"{exponent:.2f}", bool(0.65 < exponent < 1.2), interval),
    ]


def draw(tables: Tables) -> dict[str, Figure]:
    """Samples over dimension, and the line."""
    figure, (ax,) = panels(1, 1)
    rows, means = tables["samples"], tables.get("means", [])
    reached = [r for r in rows if r["samples"] is not None]
    x, y = [r["d"] for r in reached], [r["samples"] for r in reached]
    ax.plot(x, y, "o", color=COLORS[1], markersize=4, label="networks")
    if means:
        x, y = [r["d"] for r in means], [r["line"] for r in means]
        ax.plot(x, y, color=COLORS[0], label="straight line through the means")
    finish(ax, "XOR (X1)", "dimension d", "samples to 99 % accuracy", log="")
    return {"samples": figure}


_NEURONS, _RATE, _STEPS, _EVERY, _TESTED = 64, 0.1, 400, 4, 4000


def measure_phases(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``curves``: accuracy and feature share over samples; ``reached``: samples to 75 and 99 %."""
    evidence = Evidence({"curves": [], "reached": []})
    for k, d in enumerate(o.dimensions):
        rows = train_from_sphere(d, o.seeds)
        evidence.tables["curves"] += rows
        for seed in range(o.seeds):
            mine = [r for r in rows if r["seed"] == seed]
            half, whole = (next((r for r in mine if r["accuracy"] > a), None) for a in (0.75, _TARGET))
            evidence.tables["reached"].append(
                {"d": d, "seed": seed, "samples_75": half and half["samples"],
                 "samples_99": whole and whole["samples"], "share": whole and whole["share"]}
            )  # fmt: skip
        workshop.progress("dimensions", k + 1, len(o.dimensions) + 1)
    frozen = train_from_sphere(o.control, o.seeds, frozen=True)
    evidence.tables["control"] = [r for r in frozen if r["step"] == _STEPS]
    evidence.findings = _judge_phases(o, evidence.tables)
    return evidence


def _judge_phases(o: Options, tables: Tables) -> list[Finding]:
    rows, dimensions = tables["reached"], list(o.dimensions)
    missing = sum(r["samples_99"] is None for r in rows)
    if missing:
        statement, found = f"networks that reach 99 % in {_STEPS} steps", f"all but {missing} of {len(rows)}"
        return [Finding(c, statement, "all", found, False, "none: a count") for c in ("L1a", "L1b")]
    samples = np.array([[r["samples_99"] for r in rows if r["seed"] == s] for s in range(o.seeds)])
    slopes = log_slopes(np.array(dimensions), samples)
    part = [r["samples_75"] / r["samples_99"] for r in rows]
    largest = [r["share"] for r in rows if r["d"] == dimensions[-1]]
    name = (
        f"d = {dimensions[-1]}: share of Σ‖w_k‖² on the two inputs at 99 %, {2 / dimensions[-1]:.4f} at first"
    )
    return [
        in_every_seed("L1a", "slope of log samples to 99 % over log d", slopes.each, 1.0, 1.5),
        in_every_seed("L1a", "samples to 99 % over d", samples / dimensions, 300, 1800),
        in_every_seed("L1a", f"d = {o.control}, first layer frozen: accuracy after {_STEPS} steps",
                 [r["accuracy"] for r in tables["control"]], 0.47, 0.53),
        in_every_seed("L1b", "samples to 75 % over samples to 99 %", part, low=1 / 3),
        in_the_mean("L1b", "samples to 75 % over samples to 99 %, over dimensions too",
                np.reshape(part, (len(dimensions), -1)).mean(0), 0.5, 0.85, "about two thirds"),
        in_the_mean("L1b", name, largest, low=0.4),
    ]  # fmt: skip


def train_from_sphere(d: int, seeds: int, frozen: bool = False) -> list[Row]:
    """Networks of all seeds at once, on the streams that ``fit`` has: accuracy and share every 4 steps.

    Until each is beyond 99 %, at most 400 steps; with the first layer ``frozen`` all of them.
    """
    import torch

    from sgdlit.data.streams import Split
    from sgdlit.data.teachers import XOR
    from sgdlit.theory.draws import generator

    batch_size, radius = 8 * d, 1 / math.log(d) ** 2
    w, a = np.empty((seeds, _NEURONS, d)), np.empty((seeds, _NEURONS))
    for seed in range(seeds):
        draw = generator(seed, f"XOR, start on the sphere, d = {d}")
        w[seed], a[seed] = (
            draw.standard_normal((_NEURONS, d)),
            radius * (1 - 2 * draw.integers(0, 2, _NEURONS)),
        )
    w *= radius / np.linalg.norm(w, axis=-1, keepdims=True)
    first, second = torch.from_numpy(w).float(), torch.from_numpy(a).float()
    streams = [XOR(d, steps=_STEPS, batch_size=batch_size, seed=seed) for seed in range(seeds)]

    def drawn(split: Split, index: Tensor) -> tuple[Tensor, Tensor]:
        inputs, targets = zip(*(stream.draw(split, index) for stream in streams), strict=True)
        return torch.stack(inputs), torch.stack(targets)

    there, labels = drawn("test", torch.arange(_TESTED))
    rows: list[Row] = []
    reached = torch.zeros(seeds, dtype=torch.bool)
    for step in range(_STEPS + 1):
        if step % _EVERY == 0:
            outputs = (torch.bmm(there, first.mT).relu_() * second[:, None]).sum(-1)
            accuracy = (outputs * labels > 0).double().mean(1)
            squares = first.double().square()
            share = squares[..., :2].sum((1, 2)) / squares.sum((1, 2))
            rows += [
                {"d": d, "seed": s, "step": step, "samples": step * batch_size, "accuracy":
                float(accuracy[s]),
                 "share": float(share[s])}
                for s in range(seeds)
            ]  # fmt: skip
            reached |= accuracy > _TARGET
            if bool(reached.all()) and not frozen:
                break
        x, y = drawn("train", torch.arange(step * batch_size, (step + 1) * batch_size))
        first, second = _step(first, second, x, y, frozen)
    return rows


def _step(w: Tensor, a: Tensor, x: Tensor, y: Tensor, frozen: bool) -> tuple[Tensor, Tensor]:
    """w and a after a step on the mean logistic loss of f = (1/p)Σ a·relu(w·x), at rate 0.1·p."""
    import torch

    units = torch.bmm(x, w.mT).relu_()
    outputs = torch.bmm(units, a[..., None])[..., 0] / _NEURONS
    pull = y * torch.sigmoid(-y * outputs) / y.shape[1]
    new = a + _RATE * torch.bmm(pull[:, None], units)[:, 0]
    if frozen:
        return w, new
    active = (units > 0).float().mul_(pull[..., None])
    return w + _RATE * a[..., None] * torch.bmm(active.mT, x), new


def draw_phases(tables: Tables) -> dict[str, Figure]:
    """Accuracy and feature share over samples at the largest d, and samples over d."""
    figure, (left, right) = panels(1, 2)
    curves, reached = tables["curves"], tables["reached"]
    d = max(r["d"] for r in curves)
    shown = [r for r in curves if r["d"] == d]
    samples = sorted({r["samples"] for r in shown})
    for color, name, label in (
        (COLORS[0], "accuracy", "test accuracy"),
        (COLORS[1], "share", "feature share"),
    ):
        mean = [np.mean([r[name] for r in shown if r["samples"] == n]) for n in samples]
        for seed in sorted({r["seed"] for r in shown}):
            mine = [r for r in shown if r["seed"] == seed]
            left.plot(
                [r["samples"] for r in mine], [r[name] for r in mine], color=color, alpha=0.25, linewidth=0.7
            )
        left.plot(samples, mean, color=color, label=f"{label}, mean of seeds")
    left.axhline(2 / d, color=COLORS[1], linestyle=":", linewidth=1, label="2/d")
    left.axhline(0.75, color="grey", linestyle="--", linewidth=0.8)
    finish(left, f"XOR from a small start, d = {d} (L1b)", "samples", "accuracy, share", log="")
    found = [r for r in reached if r["samples_99"] is not None]
    dimensions = np.array(sorted({r["d"] for r in found}))
    right.plot([r["d"] for r in found], [r["samples_99"] for r in found], "o", color=COLORS[0], alpha=0.4,
               markersize=4, label="to 99 %, each seed")  # fmt: skip
    middle = np.array([np.mean([r["samples_99"] for r in found if r["d"] == v]) for v in dimensions])
    for power, style in ((1, "--"), (2, ":")):
        line = middle[0] * (dimensions / dimensions[0]) ** power
        right.plot(dimensions, line, f"k{style}", linewidth=1, label="∝ d" if power == 1 else "∝ d², kernels")
    finish(right, "samples (L1a)", "dimension d", "samples to 99 % accuracy")
    return {"phases": figure}


_L1 = (
    "f = (1/64)Σ a·relu(w·x) without biases, w uniform on the sphere of radius 1/ln² d, a = ± that, B = 8d, "
    "rate 6.4, at "
    "most 400 steps, accuracy on 4000 every 4 steps; d = 20, 40, 80, 160; 10 seeds"
)
_L1_FULL = "the same up to d = 640; as runs of fit, up to 4096, with a fit of powers of log d"

PAPER = Paper(
    "glasgow2023",
    "Glasgow 2023, SGD finds then tunes features in two-layer neural networks, arXiv 2309.15111",
    (
        Experiment(
            "samples",
            (
                Claim(
                    "X1",
                    "samples to learn XOR grow about linearly in d, where a fixed kernel needs order d²",
                    "Glasgow 2023, arXiv 2309.15111",
                    "trained",
                    "a line explains 97 %; a power between 0.65 and 1.2",
                    "width 64, B = 16, d = 10, 20, 40, 80, four seeds",
                    "the same with 16 seeds and 10 000 test examples",
                    "teachers/xor.yaml",
                ),
            ),
            measure,
            draw,
        ),
        Experiment(
            "phases",
            (
                Claim(
                    "L1a",
                    "with both layers trained from a small start, samples grow about linearly in d, far "
                    "from d²; with "
                    "the first layer frozen nothing is learned",
                    "Glasgow 2023, arXiv 2309.15111, theorem 1.1",
                    "trained",
                    "slope in d 1.0 to 1.5 and samples/d 300 to 1800 in every seed; 0.5 ± 0.03 when frozen",
                    _L1,
                    _L1_FULL,
                    "list/xor_mean_field.yaml",
                ),
                Claim(
                    "L1b",
                    "the signal is found while outputs are small, then it grows",
                    "Glasgow 2023, arXiv 2309.15111, section 4",
                    "trained",
                    "accuracy passes 0.75 after more than a third of the samples in every run, about two "
                    "thirds in the "
                    "mean; the share of the two inputs rises above 0.4 at d = 160",
                    _L1,
                    _L1_FULL,
                    "list/xor_mean_field.yaml",
                ),
            ),
            measure_phases,
            draw_phases,
        ),
    ),
    Options,
    {"dimensions": [20, 40, 80, 160]},
)
