"""The figure of online convex optimisation: the best iterate's loss over the steps, and its bound."""

from typing import TYPE_CHECKING

from sgdlit.figures.style import COLORS, finish, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(tables: dict[str, list[dict]]) -> dict[str, "Figure"]:
    """The figures by file name."""
    rows = tables["regret"]
    figure, (ax,) = panels(1, 1, width=4.8, height=3.8)
    steps = [r["steps"] for r in rows]
    ax.plot(steps, [r["bound"] for r in rows], color=COLORS[0], label="bound ‖x¹ − x*‖/√K (F1)")
    ax.errorbar(
        steps, [r["mean"] for r in rows], [2 * r["standard_error"] for r in rows],
        fmt="o", color=COLORS[1], markersize=4, capsize=3, label="simulated, mean ± 2 standard errors",
    )  # fmt: skip
    finish(ax, "online SGD on convex losses (B10)", "steps K", "loss of the best iterate")
    return {"regret": figure}
