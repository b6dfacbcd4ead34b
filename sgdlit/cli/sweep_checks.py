"""What a dry run of a sweep looks at beside the plan: some of its runs, built as ``fit`` builds them."""

import tempfile
from pathlib import Path

from sgdlit.cli.fit import settle_process
from sgdlit.cli.without_running import BuiltRun
from sgdlit.foundations.errors import UserError
from sgdlit.sweeps.plan import Cell, Plan
from sgdlit.sweeps.worker import config_text, described

_MOST = 3  # points of a sweep that are built, its first and last among them


def check_cells(plan: Plan) -> None:
    """Build the run of one seed at points spread evenly over the sweep; nothing is trained or kept.

    Raises:
        UserError: what ``fit`` would refuse, with the run that it refuses.
    """
    settle_process()
    points: dict[str, Cell] = {}
    for cells in plan.grids.values():
        for cell in cells:
            points.setdefault(repr(cell.point), cell)
    known = list(points.values())
    count = min(_MOST, len(known))
    chosen = {round(k * (len(known) - 1) / max(count - 1, 1)) for k in range(count)}
    with tempfile.TemporaryDirectory() as folder:
        for cell in (known[k] for k in sorted(chosen)):
            path = Path(folder) / f"{cell.key}.yaml"
            path.write_text(config_text(cell), encoding="utf-8")
            try:
                BuiltRun("fit", ["--config", str(path)])
            except UserError as error:
                raise UserError(f"{error}\n({described(cell)})") from error
