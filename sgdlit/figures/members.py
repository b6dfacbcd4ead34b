"""The members of an ensemble in a picture: one colour for those that differ in seeds alone.

Where a number tells three groups or more apart, the colour is that of its value, and a colour bar says which;
else a legend names them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgdlit.config.words import key_in_words, symbol
from sgdlit.figures import colors
from sgdlit.figures.style import COLORS
from sgdlit.sweeps.expressions import shown_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEEDS = ("seed_everything", "init_seed", "data.seed", "data.order_seed")
"""Keys in which the members of one group differ."""
_FROM = 3  # groups, whose values have a colour bar
_NAMED = 8  # groups that a legend names


@dataclass(frozen=True)
class Groups:
    """Members of an ensemble by what distinguishes them.

    Attributes:
        names: of each member the name of its group.
        colors: of each member.
        key: of the number that tells groups apart, where the colour says its value.
        values: of each member at that key.
    """

    names: list[str]
    colors: list[str]
    key: str | None
    values: list[Any]

    def is_first(self, k: int) -> bool:
        """Whether member k is the first of its group."""
        return self.names.index(self.names[k]) == k

    def explain(self, ax: "Axes") -> bool:
        """A colour bar beside the axes, if colours are values; whether there is one."""
        if self.key is not None:
            colors.add_color_bar(ax, self.values, key_in_words(self.key))
        return self.key is not None

    def explain_page(self, figure: "Figure") -> None:
        """A colour bar, or a legend, below a page of panels; of many groups the legend names some."""
        from matplotlib.lines import Line2D

        if self.key is not None:
            colors.add_page_bar(figure, self.values, key_in_words(self.key))
            return
        named = [k for k in range(len(self.names)) if self.is_first(k)]
        if len(named) > _NAMED:
            named = [named[round(k * (len(named) - 1) / (_NAMED - 1))] for k in range(_NAMED)]
        handles = [Line2D([], [], color=self.colors[k], label=self.names[k]) for k in named]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), fontsize=8)


def groups_of(points: Sequence[Mapping[str, Any]]) -> Groups:
    """The groups of members with these points.

    Args:
        points: of each member the values that distinguish it, by key.
    """
    differ = [
        key
        for key in dict.fromkeys(key for point in points for key in point if key not in SEEDS)
        if any(point.get(key) != points[0].get(key) for point in points)
    ]
    names = [", ".join(f"{symbol(key)} = {_shown(point.get(key))}" for key in differ) for point in points]
    if len(points) > 1 and not differ:
        names = [f"{len(points)} seeds"] * len(points)
    kinds = list(dict.fromkeys(names))
    values: list[Any] = [point.get(differ[0]) for point in points] if differ else []
    of_one_number = colors.are_numbers(values) and len(set(values)) == len(kinds)
    if of_one_number and len(kinds) >= _FROM:
        return Groups(names, colors.of_values(values), differ[0], values)
    if len(kinds) > len(COLORS):
        each = colors.of_values(list(range(len(kinds))))
    else:
        each = colors.of_names(len(kinds))
    return Groups(names, [each[kinds.index(name)] for name in names], None, [])


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else shown_number(value)
