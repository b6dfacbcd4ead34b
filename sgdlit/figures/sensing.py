"""The error of a run on matrix sensing over the samples that it has seen, beside the baseline."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdlit.figures.members import Groups, groups_of
from sgdlit.figures.style import COLORS, finish, fit_axes, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdlit.runs.outcomes import Columns, Outcome
    from sgdlit.runs.reading import Run

# Minimum-norm least squares, which has no prior on the rank, from half as many measurements as T has
# entries: it finds the projection of T on a random half of the space, and misses √½ of its norm.
BASELINE = 0.5**0.5

_SAMPLES = "sensing/samples"
_ERRORS = {
    "sensing/relative_error": ("‖M − T‖ / ‖T‖", BASELINE, "0.707"),
    "sensing/relative_squared_error": ("Σ(y − p)² / Σy², unseen minibatches", BASELINE**2, "0.707² = 0.5"),
}
_VALUE, _TARGET = "sensing/singular_value_", "sensing/target_singular_value_"
_X = "samples seen, each once"
_LINES = ("-", "--", ":", "-.")


def draw(run: "Run") -> "Figure | None":
    """Error over samples with the least-squares baseline, and singular values that were measured repeatedly.

    Those of one run stand beside those of T, those of an ensemble are divided by them. None where the run has
    no report of matrix sensing.
    """
    members = run.members
    name = next((name for name in _ERRORS if any(name in m.columns for m in members)), None)
    if name is None:
        return None
    spectra = any(len(m.columns[f"{_VALUE}1"][0]) > 1 for m in members if f"{_VALUE}1" in m.columns)
    figure, axes = panels(1, 2 if spectra else 1, width=5.2, height=3.8)
    groups = groups_of([member.point for member in members])
    _draw_errors(axes[0], members, groups, name)
    if spectra and len(members) == 1:
        _draw_spectrum(axes[1], members[0].columns)
    elif spectra:
        _draw_shares(axes[1], members, groups)
    groups.explain(axes[-1])
    return figure


def _draw_errors(ax: "Axes", members: "Sequence[Outcome]", groups: Groups, name: str) -> None:
    """The error of every member; those that diverged end in a cross, and move no axis."""
    label, baseline, value = _ERRORS[name]
    lost = [k for k, member in enumerate(members) if member.state == "diverged"]
    kept = []
    for k, member in enumerate(members):
        if name not in member.columns:
            continue
        samples, errors = member.columns[_SAMPLES][1], member.columns[name][1]
        words = "trained network" if len(members) == 1 else groups.names[k]
        named = groups.is_first(k) and groups.key is None
        look: dict[str, Any] = {
            "color": groups.colors[k],
            "linewidth": 1.4,
            "label": words if named else None,
        }
        drawn = ax.plot(samples, errors, **look)
        kept += [] if k in lost else drawn
    words = f"least squares, d²/2 samples: {value}"
    line = ax.axhline(baseline, color=COLORS[6], linestyle="--", linewidth=1, label=words)
    fit_axes(ax, [*kept, line] if kept else [])
    if lost and len(members) > 1:
        words = f"diverged ({len(lost)} of {len(members)})"
        ax.plot([], [], "x", color="black", markersize=7, markeredgewidth=2, label=words)
    finish(ax, "Matrix sensing", _X, label, log="y")
    for k in lost:
        if name in members[k].columns:
            _cross(ax, members[k].columns[_SAMPLES][1], members[k].columns[name][1], groups.colors[k])


def _cross(ax: "Axes", samples: np.ndarray, errors: np.ndarray, color: str) -> None:
    """A cross at the last point that is known, or at the edge beyond which it lies."""
    there = [pair for pair in zip(samples, errors, strict=True) if np.isfinite(pair).all()]
    if there:
        low, high = ax.get_ylim()
        at = there[-1][0], min(max(there[-1][1], low), high)
        ax.plot(*at, "x", color=color, markersize=7, markeredgewidth=2, clip_on=False, scaley=False)


def _draw_spectrum(ax: "Axes", columns: "Columns") -> None:
    for k in range(1, _count(columns) + 1):
        color = COLORS[(k - 1) % len(COLORS)]
        seen, values = _over_samples(columns, f"{_VALUE}{k}")
        ax.plot(seen, values, color=color, marker=".", label=f"$\\sigma_{{{k}}}$ of the network")
        target = columns[f"{_TARGET}{k}"][1][0]
        ax.axhline(target, color=color, linestyle="--", linewidth=1)
    finish(ax, "Singular values (dashed: those of T)", _X, "singular value", log="")


def _draw_shares(ax: "Axes", members: "Sequence[Outcome]", groups: Groups) -> None:
    """Each singular value over that of T, whose scale may be the member's own; not of those that diverged."""
    count = max(_count(member.columns) for member in members)
    for member, color in zip(members, groups.colors, strict=True):
        if member.state == "diverged":
            continue
        for k in range(1, _count(member.columns) + 1):
            seen, values = _over_samples(member.columns, f"{_VALUE}{k}")
            target = member.columns[f"{_TARGET}{k}"][1][0]
            ax.plot(seen, values / target, color=color, linestyle=_LINES[(k - 1) % 4], linewidth=1.2)
    for k in range(1, count + 1):
        ax.plot([], [], color="black", linestyle=_LINES[(k - 1) % 4], label=f"$\\sigma_{{{k}}}$")
    ax.axhline(1, color="black", linewidth=0.8)
    title = "Singular values of the network, over those of T"
    finish(ax, title, _X, r"$\sigma_k(M)\,/\,\sigma_k(T)$", log="y")


def _over_samples(columns: "Columns", name: str) -> "tuple[Sequence[float], np.ndarray]":
    """Samples seen where a number was measured, and its values."""
    samples = dict(zip(*(part.tolist() for part in columns[_SAMPLES]), strict=True))
    steps, values = columns[name]
    return [samples[step] for step in steps.tolist()], values


def _count(columns: "Columns") -> int:
    """How many singular values were measured; the members of an ensemble share the columns of the largest."""
    return sum(name.startswith(_VALUE) and len(steps) > 0 for name, (steps, _) in columns.items())
