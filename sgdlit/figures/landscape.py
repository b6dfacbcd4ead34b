"""Pictures of lines between networks, and of planes through them, from what is stored of them."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdlit.figures.style import COLORS, finish, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEVELS = 14
_LOG_FROM = 20  # the largest over the smallest loss from which on levels are spaced by factors
_LABELS = {
    "loss": "loss",
    "loss_reestimated": "loss, BatchNorm with statistics of each point",
    "error": "error",
    "error_reestimated": "error, BatchNorm with statistics of each point",
}


def draw_line(rows: Sequence[Mapping[str, float]], about: Mapping[str, Any]) -> "Figure":
    """Loss and error over α, each beside its chord, above which a barrier rises.

    Args:
        rows: alpha, loss, and where they are known error and both with statistics estimated anew.
        about: what was looked at.
    """
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    kinds = [kind for kind in ("loss", "error") if kind in columns]
    figure, axes = panels(1, len(kinds))
    alphas = columns["alpha"]
    for ax, kind in zip(axes, kinds, strict=True):
        names = [name for name in (kind, f"{kind}_reestimated") if name in columns]
        for color, name in zip(COLORS, names, strict=False):
            values = columns[name]
            chord = (1 - alphas) * values[0] + alphas * values[-1]
            barrier = float((values - chord).max())
            ax.plot(alphas, values, color=color, marker=".", label=f"{_LABELS[name]}: barrier {barrier:.3g}")
            ax.plot(alphas, chord, color=color, linestyle=":", linewidth=1)
        finish(ax, f"{kind.capitalize()} on the straight path", "α, from 0 to 1", kind, log="")
    one, other = about["networks"]
    figure.suptitle(f"α = 0: {one}\nα = 1: {other}\n{_looked_at(about)}", fontsize=8)
    return figure


def draw_plane(
    alphas: np.ndarray, betas: np.ndarray, losses: np.ndarray, points: np.ndarray, about: Mapping[str, Any]
) -> "Figure":
    """Level lines of the loss, and the networks that lie in the plane, or their projections onto it.

    Args:
        alphas: ``[a]``.
        betas: ``[b]``.
        losses: ``[a, b]``; what is not finite is left white.
        points: of networks, ``[k, 2]``.
        about: what was looked at.
    """
    figure, (ax,) = panels(1, 1, width=5.6, height=4.8)
    shown, levels, label = _levels(losses)
    filled = ax.contourf(alphas, betas, shown.T, levels=levels, cmap="viridis_r", extend="max")
    ax.contour(alphas, betas, shown.T, levels=levels, colors="white", linewidths=0.4)
    bar = figure.colorbar(filled, ax=ax, label=label)
    bar.ax.tick_params(labelsize=8)
    several = len(points) > 1
    if several and "principal" in about["axes"][0]:
        ax.plot(points[:, 0], points[:, 1], color=COLORS[1], marker=".", linewidth=1, label="the run's path")
        ax.plot(
            *points[-1], color=COLORS[1], marker="*", markersize=11, linestyle="", label=about["networks"][0]
        )
    else:
        for marker, point, name in zip("osD", points, about["networks"], strict=False):
            ax.plot(*point, color=COLORS[1], marker=marker, linestyle="", markeredgecolor="white", label=name)
    finish(ax, _looked_at(about), f"α: {about['axes'][0]}", f"β: {about['axes'][1]}", log="")
    return figure


def _levels(losses: np.ndarray) -> tuple[np.ndarray, list[float], str]:
    """What is drawn, the levels of its lines, and what it is. The highest tenth, which may be far above the
    rest, has the colour of what is beyond."""
    from matplotlib.ticker import MaxNLocator

    finite = losses[np.isfinite(losses)]
    low, high = float(finite.min()), float(np.quantile(finite, 0.9))
    shown, label = np.ma.masked_invalid(losses), "loss"
    if low > 0 and high > _LOG_FROM * low:
        shown, low, high, label = np.log10(shown), math.log10(low), math.log10(high), "log₁₀ loss"
    levels = MaxNLocator(_LEVELS).tick_values(low, high if high > low else low + 1)
    return shown, list(levels), label


def _looked_at(about: Mapping[str, Any]) -> str:
    whose = {"train": "training", "val": "validation", "test": "test"}[about["set"]]
    return f"{about['examples']} {whose} examples, mode {about['mode']}"
