"""One page of what a run has measured: a panel for each question, over steps.

Loss; curvature beside the limit that the optimizer can stand; the noise scale beside the batch size; C_reg in
its two parts; alignment; spectra. A panel is drawn where the run has one of its columns. Of one run, colours
are quantities; of an ensemble they are groups of members (:mod:`sgdlit.figures.members`), and quantities are
kinds of lines.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdlit.figures.members import Groups, groups_of
from sgdlit.figures.style import COLORS, finish, label_short_log_axes, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdlit.runs.outcomes import Columns
    from sgdlit.runs.reading import Run

_LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (6, 1, 1, 1, 1, 1)))
_OF_LIMITS: Any = (0, (1, 1))
_SIZES = 8  # batch sizes that have a line
_LOG_FROM = 20.0  # the span from which a positive quantity has a logarithmic axis
_CROWD = 12  # members, of more than which each is drawn faintly
_WEIGHTS = 6  # whose singular values are drawn
_COLUMNS = 3
_TALL = 3  # lines of a legend, from which it has room of its own
_PER_LINE = 0.09  # of a panel's height


@dataclass(frozen=True)
class Line:
    """A column, and how it is drawn.

    Attributes:
        column: its name.
        label: in words.
        band: whether ``column_low`` and ``column_high`` are its interval.
        faint: a thin line, of numbers of single minibatches.
        limit: a thin black line: not found, but what others are held against.
        positive: values below 0 are left out, as noise of an estimate of what is positive.
    """

    column: str
    label: str
    band: bool = False
    faint: bool = False
    limit: bool = False
    positive: bool = False


@dataclass(frozen=True)
class Panel:
    """Quantities that are read together, over steps.

    Attributes:
        title: what the panel answers.
        y: symbol and unit.
        curves: in the order in which they are drawn.
        log: whether a wide span has a logarithmic axis.
    """

    title: str
    y: str
    curves: tuple[Line, ...]
    log: bool = True


@dataclass(frozen=True)
class Drawn:
    """A member: its number, columns, colour, batch size, and whether it diverged."""

    number: int
    columns: "Columns"
    color: str
    batch_size: Any
    lost: bool


_SHARPNESS = "measure/sharpness"
_PANELS = (
    Panel(
        "Loss", "C",
        (
            Line("train/loss", "minibatches", faint=True),
            Line("measure/cost", "training examples"),
            Line("train_set/loss", "training set"),
            Line("val/loss", "validation set"),
            Line("test/loss", "test set"),
        ),
    ),
    Panel(
        "Accuracy", "share that is right",
        (
            Line("train/accuracy", "minibatches", faint=True),
            Line("train_set/accuracy", "training set"),
            Line("val/accuracy", "validation set"),
            Line("test/accuracy", "test set"),
        ),
        log=False,
    ),
    Panel(
        "Error on matrix sensing", "relative error",
        (
            Line("sensing/relative_error", "‖M − T‖/‖T‖"),
            Line("sensing/relative_squared_error", "Σ(y − p)²/Σy² of unseen minibatches"),
        ),
    ),
    Panel(
        "Curvature", "C/θ²",
        (
            Line(_SHARPNESS, "sharpness λ₁"),
            Line("measure/batch_sharpness", "batch sharpness", band=True),
            Line("measure/directional_sharpness", "along the gradient"),
            Line("measure/sharpness_limit", "limit of the optimizer (2/ε for SGD)", limit=True),
        ),
    ),
    Panel(
        "Curvature as Adam meets it", r"$\lambda_1(D^{-1/2}HD^{-1/2})$",
        (
            Line("measure/preconditioned_sharpness", "preconditioned sharpness"),
            Line("measure/preconditioned_sharpness_limit", "limit (38/ε at β₁ = 0.9)", limit=True),
        ),
    ),
    Panel(
        "Noise scale", "B_simple in examples",
        (Line("measure/noise_scale", "tr Σ/‖∇C‖²", band=True, positive=True),),
    ),
    Panel(
        "Alignment", "",
        (
            Line("measure/alignment", "gᵀHg/(λ₁‖g‖²)"),
            Line("measure/overlap", "‖Uᵀg‖²/‖g‖²"),
            Line("measure/cosine_of_updates", "cosine of two updates"),
        ),
        log=False,
    ),
    Panel(
        "Margins", "f_y − max f_c",
        (
            Line("measure/margin_q000", "smallest"),
            Line("measure/margin_q005", "of which 5 % are smaller"),
            Line("measure/margin_q050", "median"),
        ),
        log=False,
    ),
    Panel("Trace of the Hessian", "C/θ²", (Line("measure/trace", "tr H", band=True),)),
    Panel(
        "Squared norm of the gradient", "C²/θ²",
        (
            Line("measure/squared_gradient_norm", "‖∇C‖² of the examples"),
            Line("measure/squared_gradient", "‖∇C‖² of all, without bias", positive=True),
            Line("measure/covariance_trace", "tr Σ of single examples"),
        ),
    ),
    Panel(
        "Path of the parameters", "norm",
        (
            Line("measure/weight_norm", "‖θ‖"),
            Line("measure/distance_from_start", "‖θ − θ₀‖"),
            Line("measure/update_norm", "‖update‖"),
        ),
    ),
    Panel(
        "Train–test gap", "C_test − C_train",
        (Line("measure/train_test_gap", "gap", band=True),), log=False,
    ),
)  # fmt: skip


def draw(run: "Run") -> "Figure | None":
    """The page; None where the run has nothing yet that it shows."""
    groups = groups_of([member.point for member in run.members])
    members = list(_drawn(run, groups))
    drawings = [
        *(_drawing(panel, members) for panel in _PANELS if _has(panel.curves, members)),
        *_c_reg(members),
        *_spectra(members),
    ]
    if not drawings:
        return None
    columns = min(_COLUMNS, len(drawings))
    figure, axes = panels(math.ceil(len(drawings) / columns), columns)
    log_steps = _log_spaced(members)
    for ax, drawing in zip(axes, drawings, strict=False):
        drawing(ax)
        if log_steps:
            ax.set_xscale("symlog", linthresh=1)
            ax.set_xlim(left=0)
        label_short_log_axes(ax)
        _leave_room(ax)
    for ax in axes[len(drawings) :]:
        ax.remove()
    if len(members) > 1:
        groups.explain_page(figure)
    state = "" if run.state == "finished" else f" ({run.state})"
    figure.suptitle(f"{run.folder.parent.name}/{run.folder.name}{state}", fontsize=11)
    return figure


# Members


def _drawn(run: "Run", groups: Groups) -> Iterator[Drawn]:
    """The members with their colours; those that differ in seeds alone have one."""
    for k, member in enumerate(run.members):
        size, lost = run.value("data.batch_size", k), member.state == "diverged"
        yield Drawn(k, member.columns, groups.colors[k], size, lost)


def _log_spaced(members: Sequence[Drawn]) -> bool:
    """Whether most measured steps lie early in the run, as log-spaced ones do."""
    steps = [
        step
        for member in members
        for name, (own, _) in member.columns.items()
        if name.startswith(("measure/", "sensing/"))
        for step in own.tolist()
    ]
    return bool(steps) and float(np.median(steps)) < max(steps) / 8


# Panels


def _has(curves: Iterable[Line], members: Sequence[Drawn]) -> bool:
    """Whether there is anything but a limit to be drawn."""
    names = [curve.column for curve in curves if not curve.limit]
    return any(len(member.columns[name][0]) for member in members for name in names if name in member.columns)


def _drawing(panel: Panel, members: Sequence[Drawn]) -> "Callable[[Axes], None]":
    def draw_panel(ax: "Axes") -> None:
        several = len(members) > 1
        shown = [curve for curve in panel.curves if _has([curve], members) or curve.limit]
        if several and any(
            _points(curve, members) > 1 for curve in shown if not (curve.faint or curve.limit)
        ):
            shown = [curve for curve in shown if not curve.faint]
        shown = [curve for curve in shown if _points(curve, members)]
        for i, curve in enumerate(shown):
            look = _look(curve, i, len(members), _points(curve, members))
            for member in members:
                if curve.column in member.columns:
                    _draw_curve(ax, curve, member, look, several)
            if curve.label:  # of several members in black, since colours are theirs
                ax.plot([], [], **(look | {"alpha": 1.0}), label=curve.label)
        if panel.title == "Noise scale":
            _draw_batch_sizes(ax, members)
        log = panel.log and _wide(ax)
        finish(ax, panel.title, "step", panel.y, legend=bool(ax.get_legend_handles_labels()[0]),
               log="y" if log else "")  # fmt: skip
        if log:
            ax.set_yscale("log", nonpositive="mask")  # no line to a distance of 0 at the start
        for i, curve in enumerate(shown if not several else []):
            if curve.band:
                _draw_band(ax, curve, members[0], COLORS[i % len(COLORS)])

    return draw_panel


def _leave_room(ax: "Axes") -> None:
    """Raise the top of a panel, so that a legend of several lines covers no curve."""
    lines = len(ax.get_legend_handles_labels()[0])
    if lines >= _TALL:
        scale = ax.yaxis.get_transform()
        low, high = scale.transform(ax.get_ylim())
        ax.set_ylim(top=scale.inverted().transform([high + _PER_LINE * lines * (high - low)])[0])


def _points(curve: Line, members: Sequence[Drawn]) -> int:
    """How many values the member with most of them has."""
    return max(
        len(member.columns[curve.column][0]) if curve.column in member.columns else 0 for member in members
    )


def _look(curve: Line, i: int, count: int, points: int) -> dict[str, Any]:
    """Colour, line, marker of curve i of a panel, for so many members."""
    several, special = count > 1, curve.limit or curve.faint
    return {
        "color": "black" if several or curve.limit else COLORS[i % len(COLORS)],
        "linestyle": _OF_LIMITS if curve.limit else _LINES[i % len(_LINES)] if several else "-",
        "linewidth": 0.6 if curve.faint else 1.0 if curve.limit or several else 1.4,
        "alpha": 0.3 if count > _CROWD else 0.4 if curve.faint else 0.75 if several else 1.0,
        "markersize": 4,
        "marker": "o" if points == 1 else "." if points < 60 and not (special or several) else None,
    }


def _draw_curve(ax: "Axes", curve: Line, member: Drawn, look: dict[str, Any], several: bool) -> None:
    steps, values = member.columns[curve.column]
    own = look | {"color": member.color} if several else look
    shown = np.isfinite(values) & ((values > 0) | (not curve.positive))
    ax.plot(steps, np.where(shown, values, math.nan), **own)


def _draw_band(ax: "Axes", curve: Line, member: Drawn, color: str) -> None:
    """The interval; an end that is not finite, or below a logarithmic axis, lies beyond the edge."""
    steps, low = member.columns[f"{curve.column}_low"]
    high = member.columns[f"{curve.column}_high"][1]
    bottom, top = ax.get_ylim()
    inside = [ends[np.isfinite(ends) & ((ends > 0) | (ax.get_yscale() != "log"))] for ends in (low, high)]
    reached = np.concatenate([*inside, [bottom, top]])
    ax.set_ylim(reached.min(), reached.max())
    above = 10 * abs(reached.max()) + 1
    low = np.where(low > reached.min(), low, reached.min())
    ax.fill_between(steps, low, np.where(np.isfinite(high), high, above), color=color, alpha=0.2, linewidth=0)
    ax.set_ylim(reached.min(), reached.max())


def _draw_batch_sizes(ax: "Axes", members: Sequence[Drawn]) -> None:
    sizes = sorted({float(member.batch_size) for member in members if member.batch_size is not None})
    for k, size in enumerate(sizes[:_SIZES]):
        ax.axhline(size, color="black", linestyle=":", linewidth=1, label="batch size B" if k == 0 else None)


def _wide(ax: "Axes") -> bool:
    """Whether nothing of what is drawn is negative, and what is not 0 spans more than a factor of 20."""
    values = np.concatenate([np.asarray(line.get_ydata(), float).reshape(-1) for line in ax.lines])
    values = values[np.isfinite(values)]
    above = values[values > 0]
    return bool(len(above)) and values.min() >= 0 and above.max() > _LOG_FROM * above.min()


def _names(members: Sequence[Drawn], pattern: str) -> list[tuple[str, ...]]:
    """The parts in brackets of the names of columns that a pattern describes, in order of their numbers."""
    names = dict.fromkeys(name for member in members for name in member.columns)
    found = [match.groups() for name in names if (match := re.fullmatch(pattern, name))]
    return sorted(
        found, key=lambda parts: [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]
    )


def _c_reg(members: Sequence[Drawn]) -> "Iterator[Callable[[Axes], None]]":
    """C_reg of minibatches, and the two parts of its expectation at up to three batch sizes."""
    sizes = [size for (size,) in _names(members, r"measure/C_reg_of_noise_at_(\d+)")]
    if len(sizes) > 3:
        own = [size for size in sizes if size == str(members[0].batch_size)]
        sizes = sorted({sizes[0], *own, sizes[-1]}, key=int)
    panel = Panel(
        "C_reg = ¼ mean ‖∇Ĉ‖², in its two parts" if sizes else "C_reg = ¼ mean ‖∇Ĉ‖²",
        "C²/θ²",
        (
            Line("train/C_reg", "minibatches", faint=True),
            Line("train_set/C_reg", "mean over the training set's minibatches"),
            Line("measure/C_reg_of_gradient", "of the gradient, ¼‖∇C‖²"),
            *(Line(f"measure/C_reg_of_noise_at_{size}", f"of the noise at B = {size}") for size in sizes),
        ),
    )
    if _has(panel.curves, members):
        yield _drawing(panel, members)


def _spectra(members: Sequence[Drawn]) -> "Iterator[Callable[[Axes], None]]":
    """Eigenvalues and singular values over steps; of an ensemble those of its first member not to diverge.

    Of more than six weights they are those of the first, the last, and some between.
    """
    first = [member for member in members if not member.lost][:1] or members[:1]
    of_first = f" (member {first[0].number})" if len(members) > 1 else ""
    eigenvalues = [
        Line(f"measure/sharpness_{k}", f"λ{_below(k)}") for (k,) in _names(first, r"measure/sharpness_(\d+)")
    ]
    sharpest = Line(_SHARPNESS, "λ₁")
    upper = Line("measure/spectrum_largest", "upper end of the spectrum")
    lower = Line("measure/spectrum_smallest", "lower end of the spectrum")
    if _has([*eigenvalues, upper, lower], first):
        top = sharpest if _has([sharpest], first) else upper  # one would hide the other
        curves = (top, *eigenvalues, lower)
        yield _drawing(Panel(f"Eigenvalues of the Hessian{of_first}", "C/θ²", curves), first)
    of_noise = [
        Line(f"measure/covariance_eigenvalue_{k}", f"λ{_below(k)}")
        for (k,) in _names(first, r"measure/covariance_eigenvalue_(\d+)")
    ]
    if of_noise:
        panel = Panel(f"Eigenvalues of the gradients' covariance{of_first}", "C²/θ²", tuple(of_noise))
        yield _drawing(panel, first)
    values = [k for (k,) in _names(first, r"sensing/singular_value_(\d+)")]
    if values:
        own = [Line(f"sensing/singular_value_{k}", f"σ{_below(k)} of the network") for k in values]
        target = [
            Line(f"sensing/target_singular_value_{k}", "" if i else "those of T", limit=True)
            for i, k in enumerate(values)
        ]
        yield _drawing(
            Panel(f"Singular values{of_first}", "singular value", (*own, *target), log=False), first
        )
    weights = _names(first, r"measure/singular_value_(\d+)/(.+)")
    named = list(dict.fromkeys(name for _, name in weights))
    if len(named) > _WEIGHTS:
        named = [named[round(k * (len(named) - 1) / (_WEIGHTS - 1))] for k in range(_WEIGHTS)]
    for weight in named:
        of_weight = tuple(
            Line(f"measure/singular_value_{k}/{weight}", f"σ{_below(k)}")
            for k, name in weights
            if name == weight
        )
        yield _drawing(Panel(f"Singular values of {weight}{of_first}", "singular value", of_weight), first)


def _below(number: str) -> str:
    """A number as a subscript."""
    return number.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
