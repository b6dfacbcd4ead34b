"""``load_sweep(folder)``: what a sweep left, read back in plain Python.

sweep = sgdlit.load_sweep("sweeps/quick_fashion_mlp")
pandas.DataFrame(sweep.cells)        # a line for each cell: where it is, how it ended, what it reached
steps, values = sweep.curve(3, "test/loss")
pandas.DataFrame(sweep.statistics("test/accuracy", "highest"))

Neither torch nor Lightning is imported.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed
from sgdlit.sweeps.plan import Cell, Plan, stored_plan
from sgdlit.sweeps.quantities import Metric, Statistic
from sgdlit.sweeps.series import SweepResults, table
from sgdlit.sweeps.store import Store
from sgdlit.sweeps.table import rows_of

When = Literal["final", "lowest", "highest"]


def load_sweep(folder: str | Path) -> "Sweep":
    """The sweep in a folder, ``sweeps/NAME``.

    Raises:
        UserError: no sweep is stored there, or its plan cannot be read.
    """
    store = Store(Path(folder))
    plan = stored_plan(store)
    if plan is None:
        raise UserError(f"{Path(folder) / 'plan.json'}: missing or damaged; python -m sgdlit sweep writes it")
    return Sweep(plan, store)


class Sweep:
    """A sweep on disk.

    Args:
        plan: its cells.
        store: its results.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.folder = plan, store.folder
        self._results = SweepResults(plan, store)

    def __repr__(self) -> str:
        return f"Sweep({str(self.folder)!r})"

    @cached_property
    def cells(self) -> dict[str, list[Any]]:
        """Every cell of every grid as columns of equal length; None where a cell has no value.

        ``grid``, the axes under their dotted keys, ``seed``, ``state`` (``not run`` where there is no
        result), ``step``, and of everything that was logged ``NAME.final``, ``.lowest`` and ``.highest``.
        """
        rows = [_row(name, cell, self._results) for name, cell in self._cells]
        return {
            name: [row.get(name) for row in rows] for name in dict.fromkeys(n for row in rows for n in row)
        }

    def curve(self, cell: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps int64 ``[k]`` and values float64 ``[k]`` of what was logged under a name.

        Args:
            cell: its place in :attr:`cells`.
            name: such as ``test/loss``.

        Raises:
            UserError: there is no such cell, it has no result, or nothing was logged under the name.
        """
        if not 0 <= cell < len(self._cells):
            raise UserError(
                f"cell: {cell} does not exist in {self.folder}; allowed: 0 to {len(self._cells) - 1}"
            )
        key = self._cells[cell][1].key
        if key not in self._results.by_key:
            raise UserError(f"cell: {cell} of {self.folder} has not been run yet")
        known = list(self._results.by_key[key].metrics)
        if name not in known:
            problem = f"{self.folder}: nothing was logged as {name!r}{did_you_mean(name, known)}"
            raise UserError(with_allowed(problem, known))
        return self._results.store.curve(key, name)

    def statistics(
        self, name: str, when: When = "final", statistic: Statistic | None = None
    ) -> dict[str, list[Any]]:
        """One line for every point of every grid: what its seeds say together, with the rule.

        Args:
            name: such as ``test/accuracy``.
            when: ``final``, ``lowest`` or ``highest`` over the run.
            statistic: how seeds are summarised; None for the mean of all of them with a 95 % interval.

        Raises:
            UserError: nothing was logged under the name, or ``when`` is none of the three.
        """
        if when not in get_args(When):
            raise UserError(with_allowed(f"when: {when!r} is not allowed", get_args(When)))
        metric = Metric(name=name, when=when)
        rows = rows_of(table(self._results, metric, statistic or Statistic()))
        return {key: [row.get(key) for row in rows] for key in dict.fromkeys(k for row in rows for k in row)}

    @cached_property
    def _cells(self) -> list[tuple[str, Cell]]:
        return [(name, cell) for name, cells in self.plan.grids.items() for cell in cells]


def _row(grid: str, cell: Cell, results: SweepResults) -> dict[str, Any]:
    where = {"grid": grid, **cell.point, "seed": cell.seed}
    result = results.by_key.get(cell.key)
    if result is None:
        return where | {"state": "not run"}
    found = {f"{name}.{when}": value for name, own in result.metrics.items() for when, value in own.items()}
    return where | {"state": result.state, "step": result.step} | found
