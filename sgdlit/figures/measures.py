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
from sgdlit.figures.style import label_short_log_axes, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sgdlit.runs.reading import Run

_COLUMNS = 3


def draw(run: "Run") -> "Figure | None":
    """The page; None where the run has nothing yet that it shows."""
    groups = groups_of([member.point for member in run.members])
    members = list(_members(run, groups))
    shown = list(panels_of(members))
    if not shown:
        return None
    columns = min(_COLUMNS, len(shown))
    figure, axes = panels(math.ceil(len(shown) / columns), columns)
    log_steps = _log_spaced(members)
    for ax, (panel, whose) in zip(axes, shown, strict=False):
        draw_panel(ax, panel, whose)
        if log_steps:
            ax.set_xscale("symlog", linthresh=1)
            ax.set_xlim(left=0)
        label_short_log_axes(ax)
        leave_room(ax)
    for ax in axes[len(shown) :]:
        ax.remove()
    if len(members) > 1:
        groups.explain_page(figure)
    state = "" if run.state == "finished" else f" ({run.state})"
    figure.suptitle(f"{run.folder.parent.name}/{run.folder.name}{state}", fontsize=11)
    return figure


def _members(run: "Run", groups: Groups) -> Iterator[Member]:
    """The members with their colours; those that differ in seeds alone have one."""
    for k, member in enumerate(run.members):
        size, lost = run.value("data.batch_size", k), member.state == "diverged"
        yield Member(k, member.columns, run.found(k), groups.colors[k], size, lost)


def _log_spaced(members: Sequence[Member]) -> bool:
    """Whether most measured steps lie early in the run, as log-spaced ones do."""
    steps = [
        step
        for member in members
        for name, (own, _) in member.all_columns()
        if name.startswith(("measure/", "sensing/"))
        for step in own.tolist()
    ]
    return bool(steps) and float(np.median(steps)) < max(steps) / 8
