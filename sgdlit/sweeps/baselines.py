"""With which run another is paired: the one of the same seed that differs from it in some values alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from sgdlit.config.axes import number
from sgdlit.foundations.errors import UserError
from sgdlit.sweeps.expressions import shown_number
from sgdlit.sweeps.plan import Cell, Plan


class Baselines:
    """The baseline of every cell of a plan.

    Args:
        plan: whose cells are compared.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._keys = sorted({key for cell in plan.cells for key in cell.point})
        self._cells = {self._place(cell, {}): cell for cell in plan.cells}

    def of(self, cell: Cell, paired: Mapping[str, Any], where: str = "sweep.statistic") -> Cell:
        """The cell of the same seed that has the values ``paired``, and all others as ``cell`` has them.

        Raises:
            UserError: there is none, or a key that no config of the sweep has.
        """
        for key in paired:
            self._plan.check_key(key, f"{where}.paired")
        found = self._cells.get(self._place(cell, paired))
        if found is None or not all(_alike(self._plan.value(found, k), v) for k, v in paired.items()):
            own = ", ".join(f"{key} {shown_number(value)}" for key, value in cell.point.items())
            wanted = ", ".join(f"{key} {value}" for key, value in paired.items())
            raise UserError(
                f"{where}.paired: no run has {wanted} and else the values of the run with {own}, seed "
                f"{cell.seed}; allowed: values that differ from those of its partner in the named keys alone"
            )
        return found

    def check(self, cells: Sequence[Cell], paired: Mapping[str, Any], where: str) -> None:
        """Find the baseline of each of some cells.

        Raises:
            UserError: one has none.
        """
        for cell in cells:
            self.of(cell, paired, where)

    def _place(self, cell: Cell, paired: Mapping[str, Any]) -> tuple:
        """What distinguishes a cell, with other values for some keys."""
        values = [paired[key] if key in paired else self._plan.value(cell, key) for key in self._keys]
        return (cell.seed, *(repr(_plain(value)) for value in values))


def _plain(value: Any) -> Any:
    """The same for 0, 0.0 and "0"."""
    value = number(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _alike(a: Any, b: Any) -> bool:
    return repr(_plain(a)) == repr(_plain(b))
