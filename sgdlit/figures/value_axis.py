"""Where on the x axis a value is drawn, and the ticks there: also 0 on a logarithmic axis, and names."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sgdlit.figures.colors import are_numbers, place_of_zero
from sgdlit.figures.style import binary_ticks
from sgdlit.foundations.console import warn
from sgdlit.sweeps.expressions import power_of_two, shown_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LABELS = 9


class ValueAxis:
    """The x axis of a panel: a number lies at itself, a name in its turn, and 0 on a logarithmic axis left of
    all others, beyond a gap in the axis.

    Args:
        values: all that are drawn.
        log: whether the axis is logarithmic, where the values are numbers.
    """

    def __init__(self, values: Sequence[Any], log: bool) -> None:
        self.values = list(dict.fromkeys(values))
        numeric = are_numbers(self.values) or not self.values
        self.categories = [] if numeric else self.values
        self.log = log and numeric and any(value > 0 for value in self.values)
        self.zero = place_of_zero(self.values) if self.log and 0 in self.values else None
        lost = [value for value in self.values if not self.has(value)]
        if lost:
            warn(f"x = {', '.join(map(str, lost))} has no place on a logarithmic axis, and is not drawn")

    def has(self, value: Any) -> bool:
        """Whether a value has a place."""
        return not self.log or value >= 0

    def of(self, value: Any) -> float:
        """The place of a value."""
        if self.categories:
            return self.categories.index(value)
        return self.zero if self.zero is not None and value == 0 else value

    def tick(self, ax: "Axes") -> None:
        """Ticks at powers of two where all values lie there, at names, and at 0."""
        positive = sorted(value for value in self.values if not self.categories and value > 0)
        if self.categories:
            ax.set_xticks(range(len(self.values)), [str(value) for value in self.values])
        elif self.log and all(map(_on_binary_grid, positive)):
            whole = [value for value in positive if power_of_two(value) is not None]
            if whole:
                binary_ticks(ax, whole)
        if self.zero is not None:
            _tick_zero(ax, self.zero, positive)


def _tick_zero(ax: "Axes", zero: float, positive: Sequence[float]) -> None:
    """A tick ``0`` beyond a gap in the axis, beside those that are there or, of another axis, round ones."""
    from matplotlib.ticker import FixedLocator, NullFormatter

    if all(map(_on_binary_grid, positive)) and any(power_of_two(v) is not None for v in positive):
        places = list(ax.get_xticks())
        labels = [text.get_text() for text in ax.get_xticklabels()]
        ax.set_xticks([zero, *places], ["0", *labels])
    else:
        chosen = _round(positive)
        ax.set_xticks([zero, *chosen], ["0", *(_in_words(value) for value in chosen)])
        ax.xaxis.set_minor_locator(FixedLocator(_minor(positive)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    gap = math.sqrt(zero * positive[0])
    look: dict[str, Any] = {"color": "black", "linestyle": "none", "clip_on": False, "zorder": 10}
    mark = [(-0.5, -1.0), (0.5, 1.0)]
    for place in (gap / 1.04, gap * 1.04):
        ax.plot([place], [0], marker=mark, markersize=7, transform=ax.get_xaxis_transform(), **look)


def _round(positive: Sequence[float]) -> list[float]:
    """Powers of ten between the values where there are two or more, else the values, or some of them."""
    low, high = math.log10(positive[0]), math.log10(positive[-1])
    powers = [10.0**k for k in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
    chosen = powers if len(powers) > 1 else list(positive)
    return chosen[:: 1 + (len(chosen) - 1) // _MOST_LABELS]


def _minor(positive: Sequence[float]) -> list[float]:
    low, high = math.floor(math.log10(positive[0])), math.ceil(math.log10(positive[-1]))
    each = [k * 10.0**power for power in range(low, high + 1) for k in range(2, 10)]
    return (
        [value for value in each if positive[0] <= value <= positive[-1]]
        if high - low <= _MOST_LABELS
        else []
    )


def _in_words(value: float) -> str:
    exponent = round(math.log10(value))
    whole = math.isclose(value, 10.0**exponent)
    return f"$10^{{{exponent}}}$" if whole and not -1 <= exponent <= 2 else shown_number(value)


def _on_binary_grid(value: float) -> bool:
    """Whether a value is a power of two, or one of three that divide an octave into equal ratios."""
    quarters = 4 * math.log2(value)
    return abs(quarters - round(quarters)) < 1e-6
