"""What an experiment trains with: the commands ``fit`` and ``sweep``, below the folder of its paper."""

import json
import pkgutil
import shutil
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from sgdlit.cli.main import COMMANDS
from sgdlit.config.shipped import require
from sgdlit.foundations.console import lent_to
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import write_atomically

_ENDED = ("finished", "diverged")


class Trainings:
    """Runs and sweeps of a paper, which are found again.

    Args:
        folder: of the paper.
        jobs: processes of a sweep.
        begin: makes the folder; called before anything is trained.
    """

    def __init__(self, folder: Path, jobs: int, begin: Callable[[], None]) -> None:
        self.folder, self.jobs, self.begin = folder, jobs, begin

    def fit(self, name: str, config: str, *arguments: str) -> Path:
        """The folder of a run; one that has ended and had the same arguments is not trained again."""
        from sgdlit.runs.reading import load_run

        self.begin()
        parent = self.folder / "runs" / name
        folder, record = parent / "version_0", parent / "arguments.json"
        given = json.dumps([config, *arguments], indent=1) + "\n"
        same = record.exists() and record.read_text(encoding="utf-8") == given
        if same and (folder / "status.json").exists() and load_run(folder).state in _ENDED:
            return folder
        if parent.exists():
            shutil.rmtree(parent)
        parent.mkdir(parents=True)
        write_atomically(record, given)
        place = ["--logs", str(self.folder / "runs"), "--name", name]
        _call("fit", ["--config", str(config_path(config)), *place, *arguments])
        return folder

    def sweep(
        self, name: str, config: str, *arguments: str, changed: Mapping[str, Any] | None = None
    ) -> Path:
        """The store of a sweep, with its figures; finished runs are not trained again."""
        import yaml

        self.begin()
        path = config_path(config)
        sections = yaml.safe_load(path.read_text(encoding="utf-8"))
        if changed is not None:
            sections["sweep"] |= changed
            path = self.folder / f"{name}.yaml"
            write_atomically(path, yaml.safe_dump(sections, sort_keys=False))
        store = self.folder / "sweeps" / name
        place = ["--config", str(path), "--store", str(store), *arguments]
        _call("sweep", [*place, "--jobs", str(self.jobs)])
        if sections["sweep"].get("figures"):
            _call("figure", place)
        return store


def _call(command: str, arguments: list[str]) -> None:
    """A command of this package, in this process.

    Raises:
        UserError: it failed.
        KeyboardInterrupt: a signal stopped it.
    """
    where, _ = COMMANDS[command]
    function = pkgutil.resolve_name(where)
    with lent_to(lambda done, latest: None), redirect_stdout(StringIO()):  # its own table is not asked for
        code = function(command, arguments) if command == "fit" else function(arguments)
    if code >= 128:
        raise KeyboardInterrupt
    if code:
        raise UserError(f"python -m sgdlit {command} {' '.join(arguments)} ended with exit code {code}")


def config_path(name: str) -> Path:
    """A file of ``configs/``, here or as it comes with the package.

    Raises:
        UserError: it is in neither place.
    """
    here = Path("configs") / name
    return here.resolve() if here.is_file() else require(name)
