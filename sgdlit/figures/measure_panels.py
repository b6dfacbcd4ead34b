"""Which quantities of a run are read together: the panels of its page, each a question, and their curves.

What ``measure --run`` found afterwards is a curve of its own beside what the run measured while it trained,
whose label says on how many examples.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sgdlit.runs.outcomes import Columns

_SIZES = 3  # batch sizes at which the parts of C_reg are drawn
_WEIGHTS = 6  # whose singular values are drawn
_NOTHING = np.array([], np.int64), np.array([], np.float64)
_DIGITS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class Line:
    """A column, and how it is drawn.

    Attributes:
        column: its name.
        label: in words.
        band: whether ``column_low`` and ``column_high`` are its interval.
        faint: a thin line, of numbers of single minibatches.
        limit: a thin black line: not found, but what others are held against.
        negative: of an estimate of what is positive, the edge of the panel at which a value of 0 or less
            has a mark: ``top`` of a ratio, whose denominator was not told from 0, or ``bottom``.
        found: on what it was measured afterwards, such as ``500 examples``; None of what the run measured.
    """

    column: str
    label: str
    band: bool = False
    faint: bool = False
    limit: bool = False
    negative: str | None = None
    found: str | None = None


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
class Member:
    """A member whose columns are drawn.

    Attributes:
        number: in the ensemble.
        name: what distinguishes it from others, such as ``ε = 0.1``; "" where only its number does.
        columns: what the run measured.
        found: what was measured afterwards, by what it was measured on.
        color: of its curves.
        batch_size: B, or None.
        lost: whether it diverged.
    """

    number: int
    name: str
    columns: "Columns"
    found: "Mapping[str, Columns]"
    color: str
    batch_size: Any
    lost: bool

    def points(self, curve: Line, end: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Steps and values ``[k]`` of a curve, or of an end of its interval, ``_low`` or ``_high``."""
        columns = self.columns if curve.found is None else self.found.get(curve.found, {})
        return columns.get(curve.column + end, _NOTHING)

    def all_columns(self) -> "Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]":
        """Names, and steps and values, of what was measured while it trained, and of what was afterwards."""
        for columns in (self.columns, *self.found.values()):
            yield from columns.items()


def points(curve: Line, members: Sequence[Member]) -> int:
    """How many values the member with most of them has."""
    return max(len(member.points(curve)[0]) for member in members)


def has(curves: Iterable[Line], members: Sequence[Member]) -> bool:
    """Whether there is anything but a limit to be drawn."""
    return any(points(curve, members) for curve in curves if not curve.limit)


_SHARPNESS = "measure/sharpness"
PANELS = (
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
        (Line("measure/noise_scale", "tr Σ/‖∇C‖²", band=True, negative="top"),),
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
            Line("measure/squared_gradient", "‖∇C‖² of all, without bias", negative="bottom"),
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


def panels_of(members: Sequence[Member]) -> Iterator[tuple[Panel, Sequence[Member]]]:
    """The panels of which there is anything to be drawn, each with the members that it shows."""
    first = [member for member in members if not member.lost][:1] or members[:1]
    words = f" ({first[0].name})" if first[0].name else ""
    of_first = f"\nof member {first[0].number} of {len(members)}{words}" if len(members) > 1 else ""
    for panel in (*PANELS, _c_reg(members)):
        yield from _with_found(panel, members)
    for panel in _spectra(first):
        yield from _with_found(replace(panel, title=f"{panel.title}{of_first}"), first)


def _with_found(panel: Panel, members: Sequence[Member]) -> Iterator[tuple[Panel, Sequence[Member]]]:
    """The panel with a curve for each source of its quantities; nothing where there is none."""
    curves = [each for curve in panel.curves for each in _sources(curve, members)]
    if has(curves, members):
        yield replace(panel, curves=tuple(curves)), members


def _sources(curve: Line, members: Sequence[Member]) -> list[Line]:
    """The curve as the run measured it, and as it was found afterwards, where it has points; a limit once."""
    others = dict.fromkeys(source for member in members for source in member.found)
    found = [replace(curve, found=s, label=_afterwards(curve, s)) for s in others]
    known = [each for each in (curve, *found) if points(each, members)]
    return [replace(known[0], label=curve.label)] if curve.limit and known else known


def _afterwards(curve: Line, source: str) -> str:
    return curve.label and f"{curve.label}, afterwards on {source}"


def _names(members: Sequence[Member], pattern: str) -> list[tuple[str, ...]]:
    """The parts in brackets of the names of columns that a pattern describes, in order of their numbers."""
    names = dict.fromkeys(name for member in members for name, _ in member.all_columns())
    found = [match.groups() for name in names if (match := re.fullmatch(pattern, name))]
    return sorted(
        found, key=lambda parts: [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]
    )


def _c_reg(members: Sequence[Member]) -> Panel:
    """C_reg of minibatches, and the two parts of its expectation at up to three batch sizes."""
    sizes = [size for (size,) in _names(members, r"measure/C_reg_of_noise_at_(\d+)")]
    if len(sizes) > _SIZES:
        own = [size for size in sizes if size == str(members[0].batch_size)]
        sizes = sorted({sizes[0], *own, sizes[-1]}, key=int)
    return Panel(
        "C_reg = ¼ mean ‖∇Ĉ‖², in its two parts" if sizes else "C_reg = ¼ mean ‖∇Ĉ‖²",
        "C²/θ²",
        (
            Line("train/C_reg", "minibatches", faint=True),
            Line("train_set/C_reg", "mean over the training set's minibatches"),
            Line("measure/C_reg_of_gradient", "of the gradient, ¼‖∇C‖²"),
            *(Line(f"measure/C_reg_of_noise_at_{size}", f"of the noise at B = {size}") for size in sizes),
        ),
    )


# Spectra: of an ensemble those of its first member not to diverge


def _spectra(first: Sequence[Member]) -> Iterator[Panel]:
    """Eigenvalues and singular values over steps."""
    yield from _eigenvalues(first)
    of_noise = [
        Line(f"measure/covariance_eigenvalue_{k}", f"λ{_below(k)}")
        for (k,) in _names(first, r"measure/covariance_eigenvalue_(\d+)")
    ]
    yield Panel("Eigenvalues of the gradients' covariance", "C²/θ²", tuple(of_noise))
    values = [k for (k,) in _names(first, r"sensing/singular_value_(\d+)")]
    own = [Line(f"sensing/singular_value_{k}", f"σ{_below(k)} of the network") for k in values]
    target = [
        Line(f"sensing/target_singular_value_{k}", "" if i else "those of T", limit=True)
        for i, k in enumerate(values)
    ]
    yield Panel("Singular values", "singular value", (*own, *target), log=False)
    yield from _singular_values(first)


def _eigenvalues(first: Sequence[Member]) -> Iterator[Panel]:
    others = [
        Line(f"measure/sharpness_{k}", f"λ{_below(k)}") for (k,) in _names(first, r"measure/sharpness_(\d+)")
    ]
    sharpest = Line(_SHARPNESS, "λ₁")
    upper = Line("measure/spectrum_largest", "upper end of the spectrum")
    lower = Line("measure/spectrum_smallest", "lower end of the spectrum")
    if any(_sources(curve, first) for curve in (*others, upper, lower)):
        top = sharpest if _sources(sharpest, first) else upper  # one would hide the other
        yield Panel("Eigenvalues of the Hessian", "C/θ²", (top, *others, lower))


def _singular_values(first: Sequence[Member]) -> Iterator[Panel]:
    """Those of each weight; of more than six weights those of the first, the last, and some between."""
    weights = _names(first, r"measure/singular_value_(\d+)/(.+)")
    named = list(dict.fromkeys(name for _, name in weights))
    if len(named) > _WEIGHTS:
        named = [named[round(k * (len(named) - 1) / (_WEIGHTS - 1))] for k in range(_WEIGHTS)]
    for weight in named:
        curves = [
            Line(f"measure/singular_value_{k}/{weight}", f"σ{_below(k)}")
            for k in dict.fromkeys(k for k, name in weights if name == weight)
        ]
        yield Panel(f"Singular values of {weight}", "singular value", tuple(curves))


def _below(number: str) -> str:
    """A number as a subscript."""
    return number.translate(_DIGITS)
