"""The figure of linear regression: gradient noise, risk, Kaczmarz, interpolation and momentum (G12–G15)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(tables: dict[str, list[dict]]) -> dict[str, "Figure"]:
    """The figures by file name."""
    figure, axes = panels(2, 3, width=4.6, height=3.7)
    _covariance(axes[0], tables["covariance"])
    _risk(axes[1], tables["risk"])
    _kaczmarz(axes[2], tables["kaczmarz"])
    _interpolation(axes[3], tables["interpolation"])
    _momentum(axes[4], tables["momentum"])
    axes[5].set_axis_off()
    return {"linear_regression": figure}


def _points(
    ax, x: Sequence[float], rows: Sequence[dict], y: str, color: str, marker: str, label: str
) -> None:
    ax.errorbar(
        x, [r[y] for r in rows], [2 * r["standard_error"] for r in rows], fmt=marker, color=color,
        markersize=3.5, capsize=2, linewidth=1, label=label,
    )  # fmt: skip


def _covariance(ax, rows: Sequence[dict]) -> None:
    ends = [min(r["predicted"] for r in rows), max(r["predicted"] for r in rows)]
    ax.plot(ends, ends, color="black", linewidth=1, label="F10 (identity)")
    for i, place in enumerate(distinct(rows, "place")):
        here = select(rows, place=place)
        _points(
            ax, [r["predicted"] for r in here], here, "measured", COLORS[i], MARKERS[i], f"{place}, ± 2 s.e."
        )
    finish(ax, "gradient covariance (G12)", "entry of Cov(g), predicted", "entry of Cov(g), measured", log="")


def _risk(ax, rows: Sequence[dict]) -> None:
    for i, curve in enumerate(distinct(rows, "curve")):
        here = select(rows, curve=curve)
        steps = [r["step"] for r in here]
        ax.plot(steps, [r["theory"] for r in here], color=COLORS[i], linewidth=1.2, label=curve)
        _points(ax, steps, here, "measured", COLORS[i], MARKERS[i], "_nolegend_")
    finish(ax, "exact risk of SGD; points: simulated ± 2 s.e.", "step", "excess risk", log="y")
    ax.set_ylim(bottom=max(1e-12, 0.5 * min(r["theory"] for r in rows)))


def _kaczmarz(ax, rows: Sequence[dict]) -> None:
    for i, labels in enumerate(distinct(rows, "labels")):
        here = select(rows, labels=labels)
        _points(
            ax,
            [r["step"] for r in here],
            here,
            "mean",
            COLORS[i + 1],
            MARKERS[i],
            f"{labels} labels, ± 2 s.e.",
        )
    clean = select(rows, labels="clean")
    ax.plot(
        [r["step"] for r in clean], [r["bound"] for r in clean], color=COLORS[0], label="bound, clean (F11)"
    )
    finish(ax, "randomized Kaczmarz (G13)", "step", "E‖w − w*‖²", log="y")


def _interpolation(ax, rows: Sequence[dict]) -> None:
    sizes = [r["batch_size"] for r in rows]
    curves = (
        ("bound", "bound at η*(b) (F12)"),
        ("at_best_rate_of_bound", "exact at η*(b)"),
        ("exact_best", "exact at the best rate"),
    )
    for i, (column, label) in enumerate(curves):
        ax.plot(
            sizes, [r[column] for r in rows], color=COLORS[i], marker=MARKERS[i], markersize=3.5, label=label
        )
    ax.plot(sizes, [rows[0]["exact_best"] / b for b in sizes], "k--", linewidth=1, label="perfect scaling")
    finish(
        ax, "interpolation: scaling, then saturation (G14)", "batch size b (examples)", "steps per factor e"
    )
    ax.set_ylim(bottom=0.5 * min(r["exact_best"] for r in rows))


def _momentum(ax, rows: Sequence[dict]) -> None:
    for i, method in enumerate(distinct(rows, "method")):
        here = select(rows, method=method)
        x, y = [r["condition"] for r in here], [r["steps"] for r in here]
        ax.plot(
            x,
            y,
            color=COLORS[i],
            marker=MARKERS[i],
            markersize=4,
            linewidth=1.2,
            label=f"{method}, best settings",
        )
    first = rows[-1]
    x = distinct(rows, "condition")
    ax.plot(x, [first["steps"] * (k / x[-1]) ** 0.5 for k in x], "k--", linewidth=1, label="∝ √κ")
    finish(ax, "momentum, discrete instance (G15)", "condition number κ", "steps per factor e")
