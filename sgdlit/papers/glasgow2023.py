"""Glasgow 2023: two-layer ReLU networks find XOR from a stream with about linearly many samples in d."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, finish, panels
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, NoOptions, Paper, Row, Tables, Workshop
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DIMENSIONS, _BATCH_SIZE, _TARGET = (10, 20, 40, 80), 16, 0.99
_TEST_SIZE = {True: 2000, False: 10_000}
_SEEDS = {True: 4, False: 16}
_STOP = """[{class_path: sgdlit.training.stop_at_target.StopAtTarget,
             init_args: {metric: test/accuracy, at_least: 0.99}}]"""


def measure(o: NoOptions, workshop: Workshop) -> Evidence:
    """Tables ``samples``, a row per network, and ``means``."""
    rows: list[Row] = []
    for i, d in enumerate(_DIMENSIONS):
        seeds = list(range(_SEEDS[workshop.quick]))
        folder = workshop.fit(
            f"xor_{d}", "teachers/xor.yaml", "--data.d", str(d), "--data.steps", "1250",
            "--data.test_size", str(_TEST_SIZE[workshop.quick]), "--model.network.widths", f"[{d},64,1]",
            "--model.network.bias", "false", "--trainer.val_check_interval", "5",
            "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
            "--trainer.callbacks", _STOP,
            "--ensemble", f"[{{seed_everything: {seeds}}}]",
        )  # fmt: skip
        for seed, member in zip(seeds, load_run(folder).members, strict=True):
            steps, accuracy = member.columns["test/accuracy"]
            reached = steps[accuracy >= _TARGET]
            samples = int(reached[0]) * _BATCH_SIZE if len(reached) else None
            rows.append({"d": d, "seed": seed, "samples": samples})
        workshop.progress("dimensions", i + 1, len(_DIMENSIONS))
    evidence = Evidence({"samples": rows})
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
    ),
)
