"""Barrett & Dherin 2021: gradient descent with larger steps ends at flatter minima, on their example."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import EXACT, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass
class Options:
    """Implicit gradient regularization on two parameters.

    Symbols (Barrett & Dherin, arXiv 2009.11162): E = ½(y − abx)² with x = 1, y = 0.6 from (a, b) = (2.8,
    3.5); h the step size; the modified flow is that on E + (h/4)‖∇E‖². Its minima are ab = y/x, the flattest
    of which have the smallest a² + b².

    Args:
        igr_steps: step sizes h of gradient descent.
        igr_time: time for which each path runs, steps times h.
    """

    igr_steps: list[float] = field(default_factory=lambda: [0.005, 0.01, 0.02, 0.04, 0.06, 0.08])
    igr_time: float = 5.0


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``igr`` and ``igr_paths``."""
    if len(o.igr_steps) < 2:
        raise UserError(f"igr_steps = {o.igr_steps}: at least two are compared")
    problem, rows, paths = theory.BarrettDherin(), [], []
    for step in [0.0, *sorted(o.igr_steps)]:
        flow = theory.modified_path(problem, step, o.igr_time)
        found: float | None = None
        if step > 0:
            descent = theory.descent_path(problem, step, o.igr_time)
            found = theory.squared_norm(descent)
            paths += _path_rows("descent", step, descent)
        paths += _path_rows("modified flow", step, flow)
        rows.append({"step": step, "descent": found, "modified_flow": theory.squared_norm(flow)})
    ends = np.array([row["descent"] for row in rows[1:]])
    statement = "E = ½(y − abx)²: a² + b² at the end of descent, from the smallest to the largest step"
    shown = " > ".join(f"{end:.3f}" for end in ends)
    finding = Finding("IGR", statement, "falls", shown, bool((np.diff(ends) < 0).all()), EXACT)
    return Evidence({"igr": rows, "igr_paths": paths}, [finding])


def _path_rows(kind: str, step: float, path: np.ndarray) -> list[Row]:
    return [{"kind": kind, "step": step, "a": float(a), "b": float(b)} for a, b in path]


def draw(tables: Tables) -> "dict[str, Figure]":
    """Left: descent (points) and modified flow (lines) over the loss; right: a² + b² at the end."""
    rows, paths = tables["igr"], tables["igr_paths"]
    figure, (left, right) = panels(1, 2, width=5.4, height=4.6)
    _draw_loss(left, paths)
    drawn = [step for step in distinct(paths, "step") if step > 0][1::2]
    for i, step in enumerate([0.0, *drawn]):
        _draw_path(left, paths, step, COLORS[i])
    left.set(xlim=(-0.6, 3.2), ylim=(-0.6, 4))
    finish(left, "E = ½(0.6 − ab)², start (2.8, 3.5)", "a", "b", log="")
    left.legend(fontsize=7.5, framealpha=0.9, loc="lower right")
    _draw_ends(right, rows)
    return {"igr": figure}


def _draw_ends(ax: "Axes", rows: Sequence[Row]) -> None:
    measured = [row for row in rows if row["descent"] is not None]
    ax.plot(
        [row["step"] for row in rows], [row["modified_flow"] for row in rows], color=COLORS[0],
        label="flow on E + (h/4)‖∇E‖²",
    )  # fmt: skip
    ax.plot(
        [row["step"] for row in measured], [row["descent"] for row in measured], "o", color=COLORS[1],
        label="gradient descent",
    )  # fmt: skip
    ax.axhline(rows[0]["modified_flow"], color=COLORS[6], linestyle=":", label="gradient flow on E (h = 0)")
    ax.axhline(1.2, color=COLORS[2], linestyle="--", label="flattest minimum, 2|y/x| = 1.2")
    finish(ax, "IGR: larger steps end at flatter minima", "step size h", "a² + b² at the end", log="")


def _draw_loss(ax: "Axes", paths: Sequence[Row]) -> None:
    a, b = (np.linspace(-0.6, 1.15 * max(row[key] for row in paths), 200) for key in "ab")
    loss = 0.5 * (0.6 - a[None, :] * b[:, None]) ** 2
    ax.contourf(a, b, np.log10(loss + 1e-4), levels=24, cmap="Greys", alpha=0.6)
    positive = a[a > 0.6 / b.max()]
    ax.plot(positive, 0.6 / positive, color="white", linewidth=2)
    ax.plot(positive, 0.6 / positive, color="black", linewidth=0.8, label="minima, ab = y/x")


def _draw_path(ax: "Axes", paths: Sequence[Row], step: float, color: str) -> None:
    flow = select(paths, step=step, kind="modified flow")
    name = "gradient flow on E" if step == 0 else f"modified flow, h = {step:g}"
    ax.plot([row["a"] for row in flow], [row["b"] for row in flow], color=color, linewidth=1.3, label=name)
    points = select(paths, step=step, kind="descent")
    if points:
        ax.plot(
            [row["a"] for row in points], [row["b"] for row in points], "o--", color=color, markersize=3.5,
            linewidth=0.5, label=f"descent, h = {step:g}",
        )  # fmt: skip


_PROTOCOL = "descent and flow from the paper's start, at six step sizes"

PAPER = Paper(
    "barrett2021",
    "Barrett & Dherin 2021, Implicit gradient regularization, arXiv 2009.11162",
    (
        Experiment(
            "igr",
            (
                Claim(
                    "IGR",
                    "larger steps of gradient descent end at flatter minima",
                    "Barrett & Dherin 2021, arXiv 2009.11162, the two-parameter example",
                    "exact",
                    "a² + b² at the end falls with the step size",
                    _PROTOCOL,
                    _PROTOCOL,
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
