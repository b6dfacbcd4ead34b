"""B3 to B5 of the blog: matrix sensing over the learning rate, the target's scale and the size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING

from sgdlit.figures.style import COLORS, finish, panels, select
from sgdlit.papers.claim import Finding
from sgdlit.papers.paper import Evidence, Experiment, Row, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import ONE_SEED, axis, in_words
from sgdlit.papers.support.sensing_runs import EACH_RUN, ERROR, QUIET, SEEDS, shown_errors, trained
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INSTANCES = [(128, 0.25, 100.0), (128, 1.0, 100.0), (128, 4.0, 100.0), (128, 1.0, 0.1), (128, 1.0, 1.0),
              (128, 1.0, 10.0), (32, 1.0, 100.0), (64, 1.0, 100.0)]  # fmt: skip
"""d, the learning rate as a multiple of the protocol's, and γ."""

Ends = dict[tuple[float, float, float], list[float | None]]
"""The errors at the end by d, multiple of the rate and γ, one for each seed; None where it diverged."""


def protocol_lr(d: int, gamma: float = 100.0) -> float:
    """lr = 0.131/(γ d²), which is B1's 2e-8 at d = 256, γ = 100 (B5)."""
    return 0.131 / (gamma * d * d)


def measure_instances(options: object, workshop: Workshop) -> Evidence:
    """Tables ``instances``, the error at the end of each, and ``scaled``, of two runs that should be one."""
    rows: list[Row] = []
    for d in sorted({d for d, *_ in _INSTANCES}):
        rows += _ends(workshop, d, [(factor, gamma) for size, factor, gamma in _INSTANCES if size == d])
        workshop.progress("sizes", len({row["d"] for row in rows}), len({d for d, *_ in _INSTANCES}))
    end: Ends = {}
    for row in rows:
        end.setdefault((row["d"], row["factor"], row["gamma"]), []).append(row["error"])
    scaled = _scaled(workshop)
    return Evidence(
        {"instances": rows, "scaled": scaled},
        [*_about_lr(end), *_about_scale(end, scaled), *_about_size(end)],
        seeds=in_words(len(SEEDS)),
    )


def _ends(workshop: Workshop, d: int, instances: Sequence[tuple[float, float]]) -> list[Row]:
    """The error after d²/2 samples for each factor, γ and seed; None where the run diverged."""
    lrs = [factor * protocol_lr(d, gamma) for factor, gamma in instances]
    gammas = [gamma for _, gamma in instances]
    points = f"[{{data.gamma: {gammas}, model.optimizer.lr: {lrs}}}, {axis(len(SEEDS))}]"
    folder = workshop.fit(f"d{d}", "matrix_sensing/simple.yaml", *QUIET, *_of_size(d), "--ensemble", points)
    rows = []
    members = load_run(folder).members
    for ((factor, gamma), seed), member in zip(product(instances, SEEDS), members, strict=True):
        diverged = member.state == "diverged"
        error = None if diverged else float(member.columns[ERROR][1][-1])
        rows.append({"d": d, "factor": factor, "gamma": gamma, "seed": seed, "error": error,
                     "diverged_at": member.step if diverged else None})  # fmt: skip
    return rows


def _of_size(d: int) -> list[str]:
    return [
        "--data.d", str(d), "--data.steps", str(d * d // 2), "--model.network.net.widths", f"[{d},{d},{d}]",
        "--trainer.val_check_interval", str(d * d // 2),
    ]  # fmt: skip


def _scaled(workshop: Workshop) -> list[Row]:
    """W = sW′ and T = s²T′ in float64: with η′ = s²η the two runs are the same but for the scale."""
    s, d, gamma, lr = 2.0, 16, 2.0, 1e-3  # a power of two scales float32 without rounding
    rows = []
    for name, init_scale, of_target, rate in (
        ("large", 1.0, gamma, lr),
        ("small", 1 / s, gamma / s**2, lr * s**2),
    ):
        folder = workshop.fit(
            f"scaled_{name}", "matrix_sensing/simple.yaml", *QUIET, *_of_size(d), "--trainer.precision",
            "64-true", "--data.gamma", repr(of_target), "--model.optimizer.lr", repr(rate),
            "--model.network.net.init_scale", repr(init_scale), *ONE_SEED,
        )  # fmt: skip
        run = load_run(folder)
        diverged = run.state == "diverged"
        error = None if diverged else float(run.column(ERROR)[1][-1])
        rows.append({"start": name, "gamma": of_target, "lr": rate, "init_scale": init_scale, "error": error,
                     "diverged_at": run.status["step"] if diverged else None})  # fmt: skip
    return rows


def _about_lr(end: Ends) -> list[Finding]:
    """B3."""
    slow, right, fast = (end[128, factor, 100.0] for factor in (0.25, 1.0, 4.0))
    found = [
        ("d = 128: error at the end at a quarter of the protocol's rate", "> 0.95 in every seed",
         shown_errors(slow), all(error is not None and error > 0.95 for error in slow)),
        ("d = 128: error at the end at the protocol's rate", "< 0.15 in every seed", shown_errors(right),
         all(error is not None and error < 0.15 for error in right)),
        ("d = 128: at four times the protocol's rate", "diverged in every seed", shown_errors(fast),
         all(error is None for error in fast)),
    ]  # fmt: skip
    return [Finding("B3", *one, interval=EACH_RUN) for one in found]


def _about_scale(end: Ends, scaled: list[Row]) -> list[Finding]:
    """B4."""
    by_seed = list(zip(*(end[128, 1.0, gamma] for gamma in (0.1, 1.0, 10.0)), strict=True))
    shown = "; ".join(map(shown_errors, by_seed))
    holds = all(
        small is None and one is not None and large is not None and large < 0.6 * one < 0.12
        for small, one, large in by_seed
    )
    return [
        Finding("B4", "d = 128: error at the end at γ = 0.1, 1 and 10, lr·γ fixed, by seed",
                "diverged, then below 0.2, then 0.6 of that", shown, holds, EACH_RUN),
        _about_scaling_down(*scaled),
    ]  # fmt: skip


def _about_scaling_down(large: Row, small: Row) -> Finding:
    """B4, the identity."""
    statement = "d = 16: error at the end with start and target scaled down, the rate up, relative"
    predicted, interval = "< 1e-10", "none: an identity"
    if large["error"] is None or small["error"] is None:
        shown = ", ".join(
            "no" if r["error"] is not None else f"at step {r['diverged_at']}" for r in (large, small)
        )
        note = "with this seed the rate is too large for these measurements: no error is left to compare"
        return Finding("B4", statement, predicted, f"diverged: {shown}", False, interval, note)
    apart = abs(small["error"] / large["error"] - 1)
    return Finding("B4", statement, predicted, f"{apart:.1e}", apart < 1e-10, interval)


def _about_size(end: Ends) -> list[Finding]:
    """B5."""
    by_seed = list(zip(*(end[d, 1.0, 100.0] for d in (32, 64, 128)), strict=True))
    holds = all(_falls([error for error in errors if error is not None]) for errors in by_seed)
    shown, statement = (
        "; ".join(map(shown_errors, by_seed)),
        "error at the end at d = 32, 64 and 128, by seed",
    )
    return [Finding("B5", statement, "from above 0.9 down below 0.15", shown, holds, EACH_RUN)]


def _falls(errors: Sequence[float]) -> bool:
    """Whether none of three sizes is missing, and the error falls from above 0.9 to below 0.15."""
    each = all(later < earlier for earlier, later in pairwise(errors))
    return len(errors) == 3 and errors[0] > 0.9 and each and errors[-1] < 0.15


def draw_instances(tables: Tables) -> dict[str, Figure]:
    """The error at the end over rate, over γ, and over d, by seed; runs that diverged are left out."""
    rows = [row for row in tables["instances"] if row["error"] is not None]
    figure, axes = panels(1, 3)
    parts = (
        ("B3: the rate, d = 128", "lr over that of the protocol", "factor", {"d": 128, "gamma": 100.0}),
        ("B4: the target's scale, d = 128", "γ, with lr·γ fixed", "gamma", {"d": 128, "factor": 1.0}),
        ("B5: the size", "d", "d", {"factor": 1.0, "gamma": 100.0}),
    )
    for ax, (title, label, column, only) in zip(axes, parts, strict=True):
        for k, seed in enumerate(SEEDS):
            here = sorted(select(rows, seed=seed, **only), key=lambda row: row[column])
            x, y = [r[column] for r in here], [r["error"] for r in here]
            ax.plot(x, y, "o-", color=COLORS[k], markersize=4, linewidth=1)
        finish(ax, title, label, "‖M − T‖ / ‖T‖ at the end", legend=False)
    return {"instances": figure}


_SMALL_QUICK = (
    f"two-layer linear networks at d = 32, 64, 128 on d²/2 samples, {len(SEEDS)} seeds, each judged by itself"
)
SMALL_INSTANCES = Experiment(
    "instances",
    (
        trained(
            "B3",
            "too small a rate learns nothing, too large a rate diverges",
            "a quarter and four times the rate",
            _SMALL_QUICK,
            "the same",
            "simple.yaml",
        ),
        trained(
            "B4",
            "a small initialisation is needed, and scaling it down is scaling the target up",
            "the error falls as γ grows; equal runs to rounding",
            _SMALL_QUICK,
            "the same",
            "simple.yaml",
            shows=False,
        ),
        trained(
            "B5",
            "it only works for large instances",
            "the error at the end falls with d",
            _SMALL_QUICK,
            "the same",
            "simple.yaml",
        ),
    ),
    measure_instances,
    draw_instances,
)
