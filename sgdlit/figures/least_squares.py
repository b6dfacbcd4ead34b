"""The figure of minimum-norm least squares: error over the number of measurements, and the closed form."""

from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, finish, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(tables: dict[str, list[dict]]) -> dict[str, "Figure"]:
    """The figures by file name."""
    rows = tables["least_squares"]
    figure, (ax,) = panels(1, 1, width=4.8, height=3.8)
    shares = np.linspace(0, 1, 201)
    ax.plot(shares, np.sqrt(1 - shares), color=COLORS[0], label="√(1 − n/d²)")
    # The standard error of a root is that of the square over twice the root.
    spread = [row["standard_error_of_square"] / row["error"] for row in rows]
    ax.errorbar(
        [row["share"] for row in rows], [row["error"] for row in rows], spread,
        fmt="o", color=COLORS[1], markersize=4, capsize=3, label="computed, mean ± 2 standard errors",
    )  # fmt: skip
    finish(ax, "Least squares without a prior on the rank (B2)", "n/d²", "‖M − T‖ / ‖T‖", log="")
    return {"least_squares": figure}
