"""Figures of the noisy quadratic model: steps to target over batch size, and best rates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgdlit.figures.style import COLORS, MARKERS, binary_ticks, distinct, finish, panels, select

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLES = (
    "preconditioners $H^\\gamma$ (G8)",
    "momentum (G9)",
    "iterate averaging, EMA (G9)",
    "learning-rate schedules (G10)",
)


def draw(tables: dict[str, list[dict]]) -> dict[str, "Figure"]:
    """The figures by file name."""
    return {"steps_to_target": steps_to_target(tables["steps"]), "rates": rates(tables["steps"])}


def steps_to_target(rows: Sequence[dict]) -> "Figure":
    """Four panels, each with plain SGD, one family, and the information-theoretic bound."""
    figure, axes = panels(2, 2, width=4.8, height=3.9)
    curves = distinct(rows, "curve")
    groups = [
        [c for c in curves if "γ" in c],
        [c for c in curves if c == "momentum"],
        [c for c in curves if c == "EMA"],
        [c for c in curves if c == "schedule"],
    ]
    plain = select(rows, curve="SGD")
    for ax, title, group in zip(axes, _TITLES, groups, strict=True):
        _curve(ax, plain, "SGD, best constant rate", 0)
        for i, curve in enumerate(group):
            label = {
                "momentum": "heavy ball, tuned",
                "EMA": "EMA, tuned",
                "schedule": "SGD, optimised schedule",
            }
            _curve(ax, select(rows, curve=curve), label.get(curve, curve), i + 1)
        ax.plot(
            [r["batch_size"] for r in plain],
            [r["bound"] for r in plain],
            "k--",
            lw=1,
            label="bound D/(2·target·B)",
        )
        finish(ax, title, "batch size B (examples)", "steps to target risk")
        ax.set_ylim(
            bottom=max(1.0, 0.5 * min(r["steps"] for r in rows if r["steps"])) if _any(rows) else None
        )
        binary_ticks(ax, (r["batch_size"] for r in plain))
    return figure


def rates(rows: Sequence[dict]) -> "Figure":
    """The best constant rate of SGD over batch size."""
    figure, (ax,) = panels(1, 1, width=4.8, height=3.9)
    plain = [row for row in select(rows, curve="SGD") if row["lr"] is not None]
    if plain:
        sizes, lrs = [r["batch_size"] for r in plain], [r["lr"] for r in plain]
        ax.plot(sizes, lrs, "o", color=COLORS[0], label="best of the grid")
        ax.plot(sizes, [lrs[0] * b / sizes[0] for b in sizes], "--", color="black", lw=1, label="∝ B")
        ax.set_ylim(0.5 * min(lrs), 3 * max(lrs))
    title = "best constant rate of SGD (G7)"
    finish(ax, title, "batch size B (examples)", "learning rate α", legend=bool(plain))
    if plain:
        binary_ticks(ax, sizes)
    return figure


def _any(rows: Sequence[dict]) -> bool:
    return any(row["steps"] for row in rows)


def _curve(ax, rows: Sequence[dict], label: str, i: int) -> None:
    reached = [row for row in rows if row["steps"]]
    ax.plot(
        [row["batch_size"] for row in reached], [row["steps"] for row in reached],
        marker=MARKERS[i], color=COLORS[i], markersize=4, linewidth=1.2, label=label,
    )  # fmt: skip
