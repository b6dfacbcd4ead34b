"""Figures of the modified flow: log–log slopes (M1–M4, M6) and the two-dimensional example (IGR)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, binary_ticks, distinct, finish, panels, select

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLES = {
    "M1": "M1, M2: one epoch of SGD, all orders",
    "M3": "M3: an epoch, then its reverse",
    "M4": "M4: gradient descent",
    "M6": "M6: n-step SGD, α = ε/n",
}


def draw(tables: dict[str, list[dict]]) -> dict[str, "Figure"]:
    """The figures by file name."""
    return {"slopes": slopes(tables["slopes"]), "igr": igr(tables["igr"], tables["igr_paths"])}


def slopes(rows: Sequence[dict]) -> "Figure":
    """Distance over learning rate, a row of panels per problem: points measured, lines of theory."""
    problems = distinct(rows, "problem")
    figure, axes = panels(len(problems), len(_TITLES), width=3.9, height=3.9)
    for place, ax in enumerate(axes):
        problem, claim = problems[place // len(_TITLES)], list(_TITLES)[place % len(_TITLES)]
        here = select(rows, problem=problem, claim=claim)
        here += select(rows, problem=problem, claim="M2") if claim == "M1" else []
        for i, label in enumerate(distinct(here, "label")):
            _slope(ax, select(here, label=label), label, i)
        finish(
            ax, f"{_TITLES[claim]}\n({problem})", "learning rate ε", "distance in parameters", legend=False
        )
        ax.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
        binary_ticks(ax, distinct(here, "lr"))
    return figure


def _slope(ax, rows: Sequence[dict], label: str, i: int) -> None:
    lr, distance = (np.array([row[key] for row in rows]) for key in ("lr", "distance"))
    slope, color, finest = rows[0]["slope"], COLORS[i], np.argmin(lr)
    ax.plot(lr, distance, MARKERS[i], color=color, markersize=5, label=f"{label} (line: slope {slope})")
    ax.plot(lr, distance[finest] * (lr / lr[finest]) ** slope, color=color, linewidth=1)


def igr(rows: Sequence[dict], paths: Sequence[dict]) -> "Figure":
    """Left: descent (points) and modified flow (lines) over the loss; right: a² + b² at the end."""
    figure, (left, right) = panels(1, 2, width=5.4, height=4.6)
    _surface(left, paths)
    drawn = [step for step in distinct(paths, "step") if step > 0][1::2]
    for i, step in enumerate([0.0, *drawn]):
        _path(left, paths, step, COLORS[i])
    left.set(xlim=(-0.6, 3.2), ylim=(-0.6, 4))
    finish(left, "E = ½(0.6 − ab)², start (2.8, 3.5)", "a", "b", log="")
    left.legend(fontsize=7.5, framealpha=0.9, loc="lower right")
    steps = [row["step"] for row in rows]
    right.plot(steps, [row["modified_flow"] for row in rows], color=COLORS[0], label="flow on E + (h/4)‖∇E‖²")
    measured = [row for row in rows if row["descent"] is not None]
    right.plot(
        [row["step"] for row in measured],
        [row["descent"] for row in measured],
        "o",
        color=COLORS[1],
        label="gradient descent",
    )
    right.axhline(
        rows[0]["modified_flow"], color=COLORS[6], linestyle=":", label="gradient flow on E (h = 0)"
    )
    right.axhline(1.2, color=COLORS[2], linestyle="--", label="flattest minimum, 2|y/x| = 1.2")
    finish(right, "IGR: larger steps end at flatter minima", "step size h", "a² + b² at the end", log="")
    return figure


def _surface(ax, paths: Sequence[dict]) -> None:
    a, b = (np.linspace(-0.6, 1.15 * max(row[key] for row in paths), 200) for key in "ab")
    loss = 0.5 * (0.6 - a[None, :] * b[:, None]) ** 2
    ax.contourf(a, b, np.log10(loss + 1e-4), levels=24, cmap="Greys", alpha=0.6)
    positive = a[a > 0.6 / b.max()]
    ax.plot(positive, 0.6 / positive, color="white", linewidth=2)
    ax.plot(positive, 0.6 / positive, color="black", linewidth=0.8, label="minima, ab = y/x")


def _path(ax, paths: Sequence[dict], step: float, color: str) -> None:
    flow = select(paths, step=step, kind="modified flow")
    name = "gradient flow on E" if step == 0 else f"modified flow, h = {step:g}"
    ax.plot([row["a"] for row in flow], [row["b"] for row in flow], color=color, linewidth=1.3, label=name)
    points = select(paths, step=step, kind="descent")
    if points:
        ax.plot(
            [row["a"] for row in points],
            [row["b"] for row in points],
            "o--",
            color=color,
            markersize=3.5,
            linewidth=0.5,
            label=f"descent, h = {step:g}",
        )
