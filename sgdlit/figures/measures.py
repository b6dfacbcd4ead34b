"""One page of what a run has measured: a panel for each question, over steps.

Loss; curvature beside the limit that the optimizer can stand; the noise scale beside the batch size; C_reg in
its two parts; alignment; spectra. A panel is drawn where one of its columns was measured: while the run
trained, or afterwards by ``measure --run``.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.measure_curves import draw_panel, leave_room
from sgdlit.figures.measure_panels import Member, panels_of
from sgdlit.figures.members import Groups, groups_of
from sgdlit.figures.style import fitted_words, label_short_log_axes, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdlit.runs.reading import Run

_COLUMNS = 3
_MARGIN = 0.02  # of the width of a panel


def draw(run: "Run") -> "Figure | None":
    """The page; None where the run has nothing yet that it shows."""
    groups = groups_of([member.point for member in run.members])
    members = list(_members(run, groups))
    shown = list(panels_of(members))
    if not shown:
        return None
    columns = min(_COLUMNS, len(shown))
    figure, axes = panels(math.ceil(len(shown) / columns), columns)
    log_steps, last = _log_spaced(members), max(1, run.status["step"], *_steps(members))
    for ax, (panel, whose) in zip(axes, shown, strict=False):
        draw_panel(ax, panel, whose)
        if log_steps:
            ax.set_xscale("symlog", linthresh=1)
        _show_steps(ax, last)
        label_short_log_axes(ax)
        leave_room(ax)
    for ax in axes[len(shown) :]:
        ax.remove()
    if len(members) > 1:
        groups.explain_page(figure)
    state = "" if run.state == "finished" else f" ({run.state})"
    lost = fitted_words(sum(member.lost for member in members), len(members))
    figure.suptitle(f"{run.folder.parent.name}/{run.folder.name}{state}{lost and f' ({lost})'}", fontsize=11)
    return figure


def _members(run: "Run", groups: Groups) -> Iterator[Member]:
    """The members with their colours; those that differ in seeds alone have one."""
    named = len(set(groups.names)) > 1
    for k, member in enumerate(run.members):
        size, lost = run.value("data.batch_size", k), member.state == "diverged"
        name = groups.names[k] if named else ""
        yield Member(k, name, member.columns, run.found(k), groups.colors[k], size, lost)


def _steps(members: Sequence[Member], rooms: tuple[str, ...] = ("",)) -> list[int]:
    """The steps of all columns whose names begin so, each as often as there are values."""
    return [
        step
        for member in members
        for name, (own, _) in member.all_columns()
        if name.startswith(rooms)
        for step in own.tolist()
    ]


def _show_steps(ax: "Axes", last: int) -> None:
    """Show the steps from 0 to the last of the run, also where a quantity is known at one alone."""
    scale = ax.xaxis.get_transform()
    end = float(scale.transform([last])[0])
    ax.set_xlim(*scale.inverted().transform([-_MARGIN * end, (1 + _MARGIN) * end]))


def _log_spaced(members: Sequence[Member]) -> bool:
    """Whether most measured steps lie early in the run, as log-spaced ones do."""
    steps = _steps(members, ("measure/", "sensing/"))
    return bool(steps) and float(np.median(steps)) < max(steps) / 8
