"""A run that is over, built again from its own config, for commands that look at what it left."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from sgdlit.cli.without_running import BuiltRun
from sgdlit.foundations.errors import UserError
from sgdlit.runs.folder import CONFIG
from sgdlit.runs.reading import Run

_ALONE = {
    "devices": 1,
    "num_nodes": 1,
    "strategy": "auto",
    "logger": False,
    "fast_dev_run": False,
    "enable_progress_bar": False,
}


def built_again(run: Run, callbacks: Sequence[Any] = ()) -> BuiltRun:
    """Model, data and trainer of a run as its config describes them, on one device.

    Args:
        run: which.
        callbacks: in the place of its own, as they stand in a config.

    Raises:
        UserError: the config is not possible here, or its data are not there.
    """
    changes = {"trainer": _ALONE | {"callbacks": list(callbacks)}, "ckpt_path": None, "figure": None}
    with TemporaryDirectory() as folder:
        path = Path(folder) / CONFIG
        path.write_text(yaml.safe_dump(changes))
        built = BuiltRun("fit", ["--config", str(run.folder / CONFIG), "--config", str(path)])
    if built.config.fit.name != run.config["name"]:
        raise UserError(f"--run: the data of {str(run.folder)!r} are not there, and others stand in for them")
    return built
