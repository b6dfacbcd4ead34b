"""Liu et al. 2024: local SGD drifts on unequal workers; asynchrony spoils momentum, which a delay repairs.

The repair is one of stability, not of speed: at outer rates of 0.35 and below momentum at every arrival is
not worse than the delayed one, and plain asynchrony with a larger outer rate comes near synchronous momentum.
Local steps and their scaling in language models (arXiv 2409.13198) rest on the same mechanism.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import all_seeds, interval_of, mean_of, range_of
from sgdlit.theory.draws import numbered_generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

Array = np.ndarray


@dataclass
class Options:
    """Eight workers with quadratic losses in ten dimensions.

    Symbols (Liu et al. 2024, arXiv 2401.09135): m workers, H local steps at rate η, worker loss ½Σh(w − c)²,
    Δ = start − end of a worker's local steps, o the outer rate, β = 0.9 the outer momentum.

    Args:
        seeds: how many problems, or draws of the noise.
        runs: on each problem of the local steps.
        local_steps: of each of them.
    """

    seeds: int = 20
    runs: int = 50
    local_steps: int = 8000


_M, _D, _LR, _BETA = 8, 10, 0.05, 0.9
_LOCAL = (1, 4, 16)
_TIMES, _H, _ARRIVALS = (1, 1, 2, 2, 3, 3, 4, 4), 10, 400
_CURVATURE = np.geomspace(1, 0.02, _D)
_OUTER = (0.1, 0.2, 0.35, 0.7, 1.0, 1.4, 2.8)
_RETUNED = 2.8
_METHODS = ("synchronous", "naive", "delayed", "plain")


def measure_local(o: Options, workshop: Workshop) -> Evidence:
    """Table ``local``: E‖w − w*‖² and bias² after averaging, by workers, H and seed."""
    drawn = [numbered_generator(seed, 1) for seed in range(o.seeds)]
    h = {"unequal": np.stack([d.uniform(0.5, 1.5, (_M, _D)) for d in drawn])[:, None]}
    c = {"unequal": np.stack([d.standard_normal((_M, _D)) for d in drawn])[:, None]}
    h["equal"], c["equal"] = np.ones_like(h["unequal"]), np.zeros_like(c["unequal"])
    best = {kind: (h[kind] * c[kind]).sum(2) / h[kind].sum(2) for kind in h}  # [S, 1, d]
    w = {(kind, every): np.repeat(best[kind][:, :, None], o.runs, 1) for kind in h for every in _LOCAL}
    w = {key: np.repeat(own, _M, 2) for key, own in w.items()}
    square = {key: np.zeros(o.seeds) for key in w}
    mean = {key: np.zeros((o.seeds, _D)) for key in w}
    for step in range(o.local_steps):
        if step % 200 == 0:
            workshop.progress("local steps", step, o.local_steps)
        noise = 0.5 * np.stack([d.standard_normal((o.runs, _M, _D)) for d in drawn])
        for (kind, every), own in w.items():
            own -= _LR * (h[kind] * (own - c[kind]) + noise)
            if (step + 1) % every == 0:
                own[:] = own.mean(2, keepdims=True)
                if step >= o.local_steps // 2:
                    apart = own[:, :, 0] - best[kind]
                    weight = every / (o.local_steps - o.local_steps // 2)
                    square[kind, every] += weight * (apart**2).sum(-1).mean(1)
                    mean[kind, every] += weight * apart.mean(1)
    rows: list[Row] = []
    for kind, every in w:
        shift = fixed_point(h[kind][:, 0], c[kind][:, 0], every) - best[kind][:, 0]
        rows += [
            {"workers": kind, "H": every, "seed": s, "error": float(square[kind, every][s]),
             "bias": float((mean[kind, every][s] ** 2).sum()), "predicted_bias": float((shift[s] ** 2).sum())}
            for s in range(o.seeds)
        ]  # fmt: skip
    return Evidence({"local": rows}, _local_findings(rows))


def fixed_point(h: Array, c: Array, every: int) -> Array:
    """w_H = Σ_j q_j c_j/Σ_j q_j with q_j = 1 − (1 − ηh_j)^H: of workers ``[S, m, d]``, ``[S, d]``."""
    q = 1 - (1 - _LR * h) ** every
    return (q * c).sum(1) / q.sum(1)


def _column(rows: list[Row], name: str, **wanted: object) -> Array:
    return np.array([r[name] for r in select(rows, **wanted)])


def _local_findings(rows: list[Row]) -> list[Finding]:
    equal, unequal = (
        _column(rows, "error", workers=kind, H=16) / _column(rows, "error", workers=kind, H=1)
        for kind in ("equal", "unequal")
    )
    found = [
        Finding("L15a", "equal workers: E‖w − w*‖² at H = 16 over H = 1", "1.00 ± 0.03 in the mean",
                mean_of(equal), bool(abs(equal.mean() - 1) <= 0.03), interval_of(equal)),
        Finding("L15a", "unequal workers: the same", "> 1.3 in the mean", mean_of(unequal),
                bool(unequal.mean() > 1.3), interval_of(unequal)),
    ]  # fmt: skip
    for every in _LOCAL[1:]:
        own = select(rows, workers="unequal", H=every)
        ratio = np.array([r["bias"] / r["predicted_bias"] for r in own])
        found.append(
            Finding("L15a", f"unequal workers, H = {every}: bias² over ‖w_H − w*‖²", "1 ± 0.1 in the mean",
                    mean_of(ratio), bool(abs(ratio.mean() - 1) <= 0.1), interval_of(ratio))
        )  # fmt: skip
    return found


# Asynchrony


def arrivals(times: tuple[int, ...]) -> Iterator[int]:
    """The workers in the order in which they arrive; those at the same time in that of their numbers."""
    queue = [(time, j) for j, time in enumerate(times)]
    while True:
        now, j = min(queue)
        queue.remove((now, j))
        queue.append((now + times[j], j))
        yield j


def _locally(start: Array, drawn: list[np.random.Generator]) -> Array:
    """What H local steps end at; the noise of a seed is the same for every method and rate."""
    w = start
    for _ in range(_H):
        noise = 0.1 * np.stack([d.standard_normal(_D) for d in drawn])
        w = w - _LR * (_CURVATURE * w + noise)
    return w


def measure_asynchronous(o: Options, workshop: Workshop) -> Evidence:
    """Table ``asynchronous``: ½Σhw² at the end, by method, outer rate and seed."""
    outer = np.array(_OUTER)[:, None, None]
    start = np.full((len(_OUTER), o.seeds, _D), 2.0)
    with np.errstate(over="ignore", invalid="ignore"):
        ends = np.stack([_synchronous(start, outer, o.seeds), *_asynchronous(start, outer, o.seeds)])
        losses = 0.5 * (_CURVATURE * ends**2).sum(-1)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    rows: list[Row] = [
        {"method": name, "outer": o_rate, "seed": s, "loss": float(losses[i, k, s])}
        for i, name in enumerate(_METHODS)
        for k, o_rate in enumerate(_OUTER)
        for s in range(o.seeds)
    ]
    return Evidence({"asynchronous": rows}, *_asynchronous_findings(rows))


def _synchronous(w: Array, outer: Array, seeds: int) -> Array:
    """Rounds of all workers, with Nesterov's momentum."""
    drawn, v = [numbered_generator(seed, 2) for seed in range(seeds)], np.zeros_like(w)
    for _ in range(_ARRIVALS // _M):
        g = sum(w - _locally(w, drawn) for _ in range(_M)) / _M
        v = _BETA * v + g
        w = w - outer * (g + _BETA * v)
    return w


def _asynchronous(start: Array, outer: Array, seeds: int) -> list[Array]:
    """Naive and delayed momentum, and none; a worker's steps are taken when it arrives, from its start."""
    drawn = [numbered_generator(seed, 3) for seed in range(seeds)]
    w = np.stack([start] * 3)
    begun, v, total = [w.copy() for _ in _TIMES], np.zeros_like(w[:2]), np.zeros_like(w[0])
    order = arrivals(_TIMES)
    for count in range(1, _ARRIVALS + 1):
        j = next(order)
        g = (begun[j] - _locally(begun[j], drawn)) / _M
        w = w - outer * g
        v[0] = _BETA * v[0] + g[0]
        w[0] = w[0] - outer * _BETA * v[0]
        total = total + g[1]
        if count % _M == 0:
            v[1], total = _BETA * v[1] + total, np.zeros_like(total)
            w[1] = w[1] - outer * _BETA * v[1]
        begun[j] = w.copy()
    return list(w)


def _asynchronous_findings(rows: list[Row]) -> tuple[list[Finding], list[str]]:
    at = {name: _column(rows, "loss", method=name, outer=0.7) for name in _METHODS}
    ratio = at["naive"] / at["synchronous"]
    ordered = (at["synchronous"] <= at["delayed"]) & (at["delayed"] <= at["plain"])
    means = ", ".join(f"{at[name].mean():.3g}" for name in ("synchronous", "delayed", "plain"))
    found = [
        Finding("L15b", "o = 0.7: loss with momentum at every arrival over the synchronous one",
                "> 1000 in every seed", range_of(ratio), bool((ratio > 1e3).all()), all_seeds(ratio)),
        Finding("L15b", "o = 0.7: loss with delayed momentum", "< 0.1 in every seed", range_of(at["delayed"]),
                bool((at["delayed"] < 0.1).all()), interval_of(at["delayed"])),
        Finding("L15b", "o = 0.7: synchronous loss", "< 0.01 in every seed", range_of(at["synchronous"]),
                bool((at["synchronous"] < 0.01).all()), interval_of(at["synchronous"])),
        Finding("L15b", "o = 0.7: losses, synchronous, delayed, no momentum", "in this order in every seed",
                means, bool(ordered.all()), all_seeds(ratio)),
    ]  # fmt: skip
    for rate in (r for r in _OUTER if r <= 0.35):
        naive, delayed = (_column(rows, "loss", method=m, outer=rate) for m in ("naive", "delayed"))
        own = naive / delayed
        found.append(
            Finding("L15b", f"o = {rate}: loss with momentum at every arrival over the delayed one",
                    "≤ 1 in the mean", mean_of(own), bool(own.mean() <= 1), interval_of(own))
        )  # fmt: skip
    plain = _column(rows, "loss", method="plain", outer=_RETUNED).mean()
    best = min(_column(rows, "loss", method="synchronous", outer=rate).mean() for rate in _OUTER)
    note = (
        f"without momentum at o = {_RETUNED}: mean loss {plain:.3g}, where synchronous momentum has "
        f"{at['synchronous'].mean():.3g} at 0.7 and {best:.3g} at its best rate: momentum is the problem, "
        "not asynchrony"
    )
    return found, [note]


def draw_local(tables: Tables) -> dict[str, Figure]:
    """Bias² and error over H."""
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    rows = tables["local"]
    for i, kind in enumerate(("equal", "unequal")):
        means = [float(_column(rows, "error", workers=kind, H=every).mean()) for every in _LOCAL]
        ax.plot(_LOCAL, means, color=COLORS[i], marker=MARKERS[i], label=f"{kind} workers, E‖w − w*‖²")
    values = [_column(rows, "bias", workers="unequal", H=every).mean() for every in _LOCAL[1:]]
    ax.plot(_LOCAL[1:], values, MARKERS[2], color=COLORS[2], label="unequal workers, bias²")
    values = [_column(rows, "predicted_bias", workers="unequal", H=every).mean() for every in _LOCAL[1:]]
    ax.plot(_LOCAL[1:], values, color=COLORS[2], linewidth=1, label="‖w_H − w*‖²")
    finish(ax, "local SGD, 8 workers, mean over seeds", "local steps H", "squared distance")
    ax.set_xticks(_LOCAL, [str(every) for every in _LOCAL])
    ax.minorticks_off()
    return {"local": figure}


def draw_asynchronous(tables: Tables) -> dict[str, Figure]:
    """Loss at the end over the outer rate."""
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    names = ("synchronous momentum", "momentum at every arrival", "delayed momentum", "no momentum")
    for i, (method, label) in enumerate(zip(_METHODS, names, strict=True)):
        means = np.array(
            [_column(tables["asynchronous"], "loss", method=method, outer=o).mean() for o in _OUTER]
        )
        shown = np.isfinite(means) & (means < 1e4)
        ax.plot(np.array(_OUTER)[shown], means[shown], color=COLORS[i], marker=MARKERS[i], markersize=4,
                label=label)  # fmt: skip
    ax.axvline(0.7, color="black", linewidth=1, linestyle=":")
    finish(ax, "400 arrivals; losses above 10⁴ left out", "outer rate o", "½ Σ h w², mean over seeds")
    ax.set_xticks(_OUTER, [f"{o:g}" for o in _OUTER])
    ax.minorticks_off()
    return {"asynchronous": figure}


_SOURCE = "Liu et al. 2024, arXiv 2401.09135"
_FULL = (
    "20 seeds, 8000 local steps; fit --config workers/local_sgd.yaml and workers/asynchronous.yaml train "
    "networks so; the paper's: transformers of 20M to 150M on C4, H = 50"
)

PAPER = Paper(
    "liu2024",
    "Liu et al. 2024, Asynchronous local-SGD training for language modeling, arXiv 2401.09135",
    (
        Experiment(
            "local",
            (
                Claim(
                    "L15a",
                    "local steps cost nothing on equal workers, and a bias that grows with H on unequal ones",
                    f"{_SOURCE}, section 2; Stich 2018, arXiv 1805.09767",
                    "simulated",
                    "E‖w − w*‖² at H = 16 over H = 1: 1.00 ± 0.03 and above 1.3; bias² that of w_H ± 10 %",
                    "8 workers, H = 1, 4, 16, 4000 local steps, 50 runs on each of 10 problems",
                    _FULL,
                ),
            ),
            measure_local,
            draw_local,
        ),
        Experiment(
            "asynchronous",
            (
                Claim(
                    "L15b",
                    "outer momentum meets stale starts and diverges; applied only after every m arrivals it "
                    "is stable",
                    f"{_SOURCE}, section 5, algorithm 3",
                    "simulated",
                    "at o = 0.7 naive above 1000 times the synchronous loss, delayed below 0.1, synchronous "
                    "below 0.01; at o ≤ 0.35 naive not worse than delayed",
                    "worker times 1, 1, 2, 2, 3, 3, 4, 4, H = 10, 400 arrivals, 10 seeds",
                    _FULL,
                    other_seeds="with 1000 to 1009 naive is at 1.03 [0.75, 1.31] of delayed at o = 0.35",
                ),
            ),
            measure_asynchronous,
            draw_asynchronous,
        ),
    ),
    Options,
    {"seeds": 10, "local_steps": 4000},
)
