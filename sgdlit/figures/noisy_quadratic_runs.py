"""The figure of runs on the noisy quadratic model: the risk of each, their mean, and the exact one."""

from typing import TYPE_CHECKING

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(tables: dict[str, list[dict]]) -> dict[str, "Figure"]:
    """The figures by file name."""
    figure, (ax,) = panels(1, 1, width=6.4, height=4.4)
    for i, curve in enumerate(distinct(tables["theory"], "curve")):
        color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
        runs = select(tables["runs"], curve=curve)
        names = distinct(runs, "run")
        for name in names:
            own = select(runs, run=name)
            ax.plot(
                [r["step"] for r in own], [r["risk"] for r in own], color=color, alpha=0.12, linewidth=0.6
            )
        line = select(tables["theory"], curve=curve)
        ax.plot(
            [r["step"] for r in line], [r["theory"] for r in line], color=color, label=f"{curve}: exact mean"
        )
        rows = select(tables["risk"], curve=curve)
        ax.errorbar(
            [r["step"] for r in rows], [r["measured"] for r in rows],
            [2 * (r["standard_error"] or 0.0) for r in rows], fmt=marker, color=color, markersize=3.5,
            capsize=2, linewidth=1,
            label="one run" if len(names) == 1 else f"mean of {len(names)} runs ± 2 standard errors",
        )  # fmt: skip
    finish(
        ax, "noisy quadratic model: runs (faint), their mean, and theory", "step", "risk ½ Σ h θ²", log="y"
    )
    return {"risk": figure}
