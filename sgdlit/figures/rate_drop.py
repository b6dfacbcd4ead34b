"""The figure of a drop of the learning rate: the noisy quadratic model beside runs of a network."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgdlit.figures.style import COLORS, distinct, finish, panels, select

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(tables: dict[str, list[dict]]) -> dict[str, "Figure"]:
    """The figures by file name."""
    network = "network" in tables
    figure, axes = panels(1, 2 if network else 1, width=5.0, height=3.9)
    _model(axes[0], tables["model"])
    if network:
        _network(axes[1], tables["network"], tables["network_runs"])
    return {"rate_drop": figure}


def _model(ax, rows: Sequence[dict]) -> None:
    steps = [r["step"] for r in rows]
    ax.plot(steps, [r["theory"] for r in rows], color=COLORS[0], label="theory, exact")
    floors = [r["floor"] for r in rows]
    ax.step(
        steps,
        floors,
        color=COLORS[6],
        linestyle=":",
        linewidth=1,
        where="post",
        label="floor at this rate (F6)",
    )
    _points(ax, steps, rows, "measured", "simulated")
    finish(ax, f"noisy quadratic model, {_rates(rows)} (G3)", "step", "risk", log="y")


def _network(ax, rows: Sequence[dict], runs: Sequence[dict]) -> None:
    names = distinct(runs, "run")
    for name in names if len(names) > 1 else []:
        own = select(runs, run=name)
        ax.plot(
            [r["step"] for r in own], [r["value"] for r in own], color=COLORS[1], alpha=0.3, linewidth=0.7
        )
    _points(
        ax, [r["step"] for r in rows], rows, "mean", f"{len(names)} runs" if len(names) > 1 else "one run"
    )
    finish(ax, f"network, {_rates(rows)} (G3)", "step", rows[0]["metric"], log="y")


def _points(ax, steps: Sequence[int], rows: Sequence[dict], column: str, what: str) -> None:
    spread = [2 * (r["standard_error"] or 0.0) for r in rows]
    label = f"{what}, mean ± 2 standard errors" if any(spread) else what
    ax.errorbar(
        steps, [r[column] for r in rows], spread,
        fmt="o", color=COLORS[1], markersize=3, capsize=2, lw=1, label=label,
    )  # fmt: skip


def _rates(rows: Sequence[dict]) -> str:
    return f"rate {rows[0]['lr']:g}, then {rows[-1]['lr']:g}"
