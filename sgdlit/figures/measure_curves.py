"""How the curves of a panel are drawn: of one run, or of the members of an ensemble.

Of one run, colours are quantities; of an ensemble they are groups of members, and quantities are kinds of
lines. What was measured afterwards has hollow marks, others for other examples. Members that diverged move
no axis. An estimate of 0 or less of what is positive is a mark at the panel's edge.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdlit.figures.measure_panels import Line, Member, Panel, points
from sgdlit.figures.style import COLORS, finish, fit_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (6, 1, 1, 1, 1, 1)))
_HOLLOW = {"markersize": 5, "markerfacecolor": "none", "linewidth": 0.8}
_MARKERS = ("o", "s", "^", "D", "v")  # of what was measured afterwards, by the examples
_ENDS = ("_low", "_high")  # of an interval
_OF_LIMITS: Any = (0, (1, 1))
_SIZES = 8  # batch sizes that have a line
_LOG_FROM = 20.0  # the span from which a positive quantity has a logarithmic axis
_CROWD = 12  # members, of more than which each is drawn faintly
_TALL = 3  # lines of a legend, from which it has room of its own
_PER_LINE = 0.09  # of a panel's height


def draw_panel(ax: "Axes", panel: Panel, members: Sequence[Member]) -> None:
    """The curves of a panel, over steps, with title, axes and legend."""
    several = len(members) > 1
    found = list(dict.fromkeys(c.found for c in panel.curves if c.found is not None))
    shown = list(panel.curves)
    if several and any(points(curve, members) > 1 for curve in shown if not (curve.faint or curve.limit)):
        shown = [curve for curve in shown if not curve.faint]
    kinds = list(dict.fromkeys(curve.column for curve in shown))
    kept = []
    for curve in shown:
        look = _look(curve, kinds.index(curve.column), len(members), points(curve, members))
        if curve.found is not None and not curve.limit:
            look |= _HOLLOW | {"marker": _MARKERS[found.index(curve.found) % len(_MARKERS)]}
        for member in members:
            drawn = _draw_curve(ax, curve, member, look, several)
            kept += [] if member.lost else drawn
        if curve.label:  # of several members in black, since colours are theirs
            ax.plot([], [], **(look | {"alpha": 1.0}), label=curve.label)
    if panel.title == "Noise scale":
        kept += _draw_batch_sizes(ax, members)
    kept = fit_axes(ax, kept)
    ends = [
        members[0].points(curve, end)[1] for curve in shown if curve.band and not several for end in _ENDS
    ]
    log = panel.log and _wide(kept, ends)
    for curve in shown:
        _mark_negative(
            ax, curve, members, "black" if several else COLORS[kinds.index(curve.column) % len(COLORS)]
        )
    finish(ax, panel.title, "step", panel.y, legend=bool(ax.get_legend_handles_labels()[0]),
           log="y" if log else "")  # fmt: skip
    if log:
        ax.set_yscale("log", nonpositive="mask")  # no line to a distance of 0 at the start
    for curve in shown if not several else []:
        if curve.band:
            _draw_band(ax, curve, members[0], COLORS[kinds.index(curve.column) % len(COLORS)])


def leave_room(ax: "Axes") -> None:
    """Raise the top of a panel, so that a legend of several lines covers no curve."""
    lines = len(ax.get_legend_handles_labels()[0])
    if lines >= _TALL:
        scale = ax.yaxis.get_transform()
        low, high = scale.transform(ax.get_ylim())
        ax.set_ylim(top=scale.inverted().transform([high + _PER_LINE * lines * (high - low)])[0])


def _look(curve: Line, i: int, count: int, points: int) -> dict[str, Any]:
    """Colour, line, marker of quantity i of a panel, for so many members."""
    several, special = count > 1, curve.limit or curve.faint
    return {
        "color": "black" if several or curve.limit else COLORS[i % len(COLORS)],
        "linestyle": _OF_LIMITS if curve.limit else _LINES[i % len(_LINES)] if several else "-",
        "linewidth": 0.6 if curve.faint else 1.0 if curve.limit or several else 1.4,
        "alpha": 0.3 if count > _CROWD else 0.4 if curve.faint else 0.75 if several else 1.0,
        "markersize": 4,
        "marker": "o" if points == 1 else "." if points < 60 and not (special or several) else None,
    }


def _draw_curve(
    ax: "Axes", curve: Line, member: Member, look: dict[str, Any], several: bool
) -> "list[Line2D]":
    steps, values = member.points(curve)
    own = look | {"color": member.color} if several else look
    shown = np.isfinite(values) & ((values > 0) | (curve.negative is None))
    return ax.plot(steps, np.where(shown, values, math.nan), **own) if len(steps) else []


def _mark_negative(ax: "Axes", curve: Line, members: Sequence[Member], color: str) -> None:
    """Marks at the edge where an estimate of what is positive is 0 or less."""
    if curve.negative is None:
        return
    top = curve.negative == "top"
    look: dict[str, Any] = {"linestyle": "none", "marker": "^" if top else "v", "markerfacecolor": "none"}
    any_marked = False
    for member in members:
        steps, values = member.points(curve)
        at = steps[values <= 0]
        own = member.color if len(members) > 1 else color
        if len(at):
            edge = np.full(len(at), 1.0 if top else 0.0)
            ax.plot(at, edge, transform=ax.get_xaxis_transform(), clip_on=False, color=own, zorder=5, **look)
            any_marked = True
    if any_marked:
        ax.plot([], [], color=color, label=f"{curve.label}: estimate not above 0", **look)


def _draw_band(ax: "Axes", curve: Line, member: Member, color: str) -> None:
    """The interval; an end that is not finite, or below a logarithmic axis, lies beyond the edge."""
    steps, low = member.points(curve, "_low")
    high = member.points(curve, "_high")[1]
    bottom, top = ax.get_ylim()
    inside = [ends[np.isfinite(ends) & ((ends > 0) | (ax.get_yscale() != "log"))] for ends in (low, high)]
    reached = np.concatenate([*inside, [bottom, top]])
    ax.set_ylim(reached.min(), reached.max())
    above = 10 * abs(reached.max()) + 1
    low = np.where(low > reached.min(), low, reached.min())
    ax.fill_between(steps, low, np.where(np.isfinite(high), high, above), color=color, alpha=0.2, linewidth=0)
    ax.set_ylim(reached.min(), reached.max())


def _draw_batch_sizes(ax: "Axes", members: Sequence[Member]) -> "list[Line2D]":
    sizes = sorted({float(member.batch_size) for member in members if member.batch_size is not None})
    look: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 1}
    return [
        ax.axhline(size, label="batch size B" if k == 0 else None, **look)
        for k, size in enumerate(sizes[:_SIZES])
    ]


def _wide(lines: "Sequence[Line2D]", ends: Sequence[np.ndarray]) -> bool:
    """Whether no line has anything negative, and what is above 0, with the ends of intervals, spans more than
    a factor of 20."""
    values = np.concatenate([np.asarray(line.get_ydata(), float).reshape(-1) for line in lines])
    reached = np.concatenate([values, *ends])
    above = reached[np.isfinite(reached) & (reached > 0)]
    return bool(len(above)) and not (values < 0).any() and above.max() > _LOG_FROM * above.min()
