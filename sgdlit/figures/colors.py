"""Colours of curves: one for each name, or, where curves are told apart by a number, by its value."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sgdlit.figures.style import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

_MAP = "viridis"
_SHARE = 0.92  # of the map that is used: its brightest yellow does not show on white


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all values are finite numbers."""
    return all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values
    ) and bool(values)


def of_names(count: int) -> list[str]:
    """A colour for each of some names; they come again after seven."""
    return [COLORS[i % len(COLORS)] for i in range(count)]


def of_values(values: Sequence[float]) -> list[str]:
    """A colour for each of some numbers, dark for the least; by logarithm where they span a factor of ten."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    norm = _norm(values)
    return [to_hex(colormaps[_MAP](_SHARE * float(norm(_placed(value, values))))) for value in values]


def add_color_bar(ax: "Axes", values: Sequence[float], label: str) -> None:
    """A colour bar beside the axes for :func:`of_values`, with a tick at each of up to eight values."""
    _tick(ax.figure.colorbar(_mappable(values), ax=ax, pad=0.02), values, label)


def add_page_bar(figure: "Figure", values: Sequence[float], label: str) -> None:
    """A colour bar below all axes of a figure."""
    bar = figure.colorbar(
        _mappable(values), ax=figure.axes, location="bottom", shrink=0.5, aspect=50, pad=0.02
    )
    _tick(bar, values, label)


def _mappable(values: Sequence[float]) -> "ScalarMappable":
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap

    part = [colormaps[_MAP](_SHARE * i / 255) for i in range(256)]
    return ScalarMappable(_norm(values), LinearSegmentedColormap.from_list(_MAP, part))


def _tick(bar: "Colorbar", values: Sequence[float], label: str) -> None:
    each = sorted(set(values))
    ticks = each[:: 1 + (len(each) - 1) // 8]
    bar.set_ticks([_placed(value, values) for value in ticks], labels=[f"{value:.4g}" for value in ticks])
    bar.minorticks_off()
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _norm(values: Sequence[float]) -> "Normalize":
    from matplotlib.colors import LogNorm, Normalize

    placed = [_placed(value, values) for value in values]
    low, high = min(placed), max(placed)
    return LogNorm(low, high) if _logarithmic(values) else Normalize(low, high)


def _logarithmic(values: Sequence[float]) -> bool:
    positive = [value for value in values if value > 0]
    return bool(positive) and min(values) >= 0 and max(positive) >= 10 * min(positive)


def _placed(value: float, values: Sequence[float]) -> float:
    """The value; on a logarithmic scale 0 lies one step below the least value above it."""
    if value == 0 and _logarithmic(values):
        return place_of_zero(values)
    return value


def place_of_zero(values: Sequence[float]) -> float:
    """Where 0 lies on a logarithmic axis: below the least of the values above it, by their ratio to the next,
    of at least 2 and at most 10."""
    positive = sorted({value for value in values if value > 0})
    ratio = positive[1] / positive[0] if len(positive) > 1 else 2.0
    return positive[0] / min(10.0, max(2.0, ratio))
