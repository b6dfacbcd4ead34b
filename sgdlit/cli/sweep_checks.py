"""What a dry run of a sweep looks at beside the plan: some of its runs, built as ``fit`` builds them."""

import tempfile
from pathlib import Path

from sgdlit.cli.fit import settle_process
from sgdlit.cli.run_cli import BuiltRun
from sgdlit.foundations.errors import UserError
from sgdlit.sweeps.plan import Cell, Plan
from sgdlit.sweeps.worker import config_text, described

_MOST = 8  # points of a grid that are built, its first and last among them


def check_cells(plan: Plan) -> None:
    """Build the run of one seed at points spread evenly over every grid; nothing is trained or kept.

    Raises:
        UserError: what ``fit`` would refuse, with the run that it refuses.
    """
    settle_process()
    chosen: dict[str, Cell] = {}
    for cells in plan.grids.values():
        points = list({repr(cell.point): cell for cell in cells}.values())
        count = min(_MOST, len(points))
        places = {round(k * (len(points) - 1) / max(count - 1, 1)) for k in range(count)}
        chosen |= {points[k].key: points[k] for k in sorted(places)}
    with tempfile.TemporaryDirectory() as folder:
        for cell in chosen.values():
            path = Path(folder) / f"{cell.key}.yaml"
            path.write_text(config_text(cell), encoding="utf-8")
            try:
                BuiltRun("fit", ["--config", str(path)])
            except UserError as error:
                raise UserError(f"{error}\n({described(cell)})") from error
