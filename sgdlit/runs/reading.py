"""``load_run(folder)``: what a run left, read back in plain Python.

    run = sgdlit.load_run("logs/run/version_0")
    run.value("model.optimizer.lr")          # 0.1
    steps, values = run.column("test/loss")
    pandas.DataFrame(run.metrics)
    run.network()(inputs)

Neither torch nor Lightning is imported before a checkpoint or a network is asked for.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from sgdlit.config.keys import value_at
from sgdlit.config.sections import check_name
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import read_table
from sgdlit.runs.folder import CONFIG, METRICS, STATUS, checkpoint_path, versions
from sgdlit.runs.outcomes import Columns, Outcome

if TYPE_CHECKING:
    from torch import nn

_KEYS = ("step", "member")  # the columns that say whose row it is
_NOT_REACHED = ("state", "step", "members", "error")  # of a status; all else is what a run reached


def load_run(folder: str | Path) -> "Run":
    """The run in a folder, ``logs/NAME/version_K``.

    Raises:
        UserError: the folder is not that of a run.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file() and not (folder / STATUS).is_file():
        raise UserError(f"{folder}: not the folder of a run: {CONFIG} is missing")
    return Run(folder)


def runs_in(folder: str | Path) -> list["Run"]:
    """The run in a folder, or those in the folders ``version_k`` in it, by k.

    Raises:
        UserError: there are none.
    """
    folder = Path(folder)
    if (folder / CONFIG).is_file():
        return [Run(folder)]
    found = [path for path in versions(folder) if (path / CONFIG).is_file()]
    if not found:
        raise UserError(
            f"{folder}: neither the folder of a run nor one with version_0, version_1, … of runs in it"
        )
    return [Run(path) for path in found]


class Run:
    """A run on disk, or an ensemble. Each part is read when it is first asked for.

    Args:
        folder: its folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    # What was set

    @cached_property
    def config(self) -> dict[str, Any]:
        """Everything that was set, as nested dictionaries.

        Raises:
            UserError: ``config.yaml`` is missing.
        """
        return yaml.safe_load(self._text(CONFIG))

    def value(self, key: str, member: int | None = None) -> Any:
        """What was set at a dotted key, in which ``init_args`` may be left out; None where there is nothing.

        Args:
            key: such as ``model.optimizer.lr``, or ``trainer.callbacks.IterateAverage.decay``.
            member: of an ensemble, whose own value is wanted.
        """
        if member is not None and key in self.members[member].point:
            return self.members[member].point[key]
        return value_at(self.config, key)

    # How it went

    @cached_property
    def status(self) -> dict[str, Any]:
        """``state`` (running, finished, stopped, diverged or failed), ``step``, and what was reached.

        Raises:
            UserError: ``status.json`` is missing, or is no status.
        """
        try:
            status = json.loads(self._text(STATUS))
            status["state"], status["step"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.folder / STATUS}: not the status of a run") from error
        return status

    @property
    def state(self) -> str:
        """How the run stands as a whole."""
        return self.status["state"]

    @property
    def alone(self) -> bool:
        """Whether one run was trained, and no ensemble."""
        return "members" not in self.status and not (
            (self.folder / CONFIG).is_file() and self.config.get("ensemble")
        )

    @cached_property
    def members(self) -> list[Outcome]:
        """How each member of an ensemble ended and what it measured; one entry for a run trained alone.

        Raises:
            UserError: the run is an ensemble that has not ended once.
        """
        status = self.status
        if "members" in status:
            ended = status["members"]
            return [
                Outcome(m["point"], m["state"], m["step"], m["reached"], self._columns(k))
                for k, m in enumerate(ended)
            ]
        if not self.alone:
            raise UserError(f"{self.folder}: how its members ended is not known yet")
        reached = {name: best for name, best in status.items() if name not in _NOT_REACHED}
        return [Outcome({}, status["state"], status["step"], reached, self._columns(None))]

    # What was measured

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """``metrics.csv`` as columns of equal length, for ``pandas.DataFrame(run.metrics)``.

        ``step`` and, of an ensemble, ``member`` are int64; all others float64, NaN where there is no value.
        """
        rows = self._rows
        columns = {"step": np.array([int(row["step"]) for row in rows], np.int64)}
        for name in rows[0] if rows else ():
            if name == "member":
                columns[name] = np.array([int(row[name]) for row in rows], np.int64)
            elif name != "step":
                columns[name] = np.array([float(row[name] or "nan") for row in rows], np.float64)
        return columns

    def column(self, name: str, member: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Steps int64 ``[k]`` and values float64 ``[k]`` of one column, where it was measured.

        Args:
            name: such as ``test/loss``.
            member: of an ensemble, whose values are wanted.

        Raises:
            UserError: there is no such column, or the run is an ensemble and no member is named.
        """
        known = [column for column in (self._rows[0] if self._rows else ()) if column not in _KEYS]
        check_name(name, known, f"{self.folder / METRICS}", f"there is no column {name!r}")
        if member is None and "member" in self._rows[0]:
            raise UserError(f"{self.folder}: an ensemble; name the member whose {name} is wanted")
        return _measured(self._rows, name, member)

    def _columns(self, member: int | None) -> Columns:
        names = [name for name in (self._rows[0] if self._rows else ()) if name not in _KEYS]
        return {name: _measured(self._rows, name, member) for name in names}

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        path = self.folder / METRICS
        return read_table(path) if path.exists() else []

    # What was trained

    def checkpoint(self, name: str | None = None) -> dict[str, Any]:
        """The content of a checkpoint, on the host; no code that a file may carry is run.

        Args:
            name: ``best`` or ``resume``; by default the best, and where there is none that to go on from.

        Raises:
            UserError: it is missing, damaged, or carries code.
        """
        from sgdlit.runs.checkpoint_files import load_checkpoint

        if name is None:
            name = "best" if checkpoint_path(self.folder, "best").is_file() else "resume"
        return load_checkpoint(checkpoint_path(self.folder, name))

    def network(self, member: int = 0, checkpoint: str | None = None) -> "nn.Module":
        """The trained network, in eval mode, on the host.

        Args:
            member: number in the ensemble; 0 for a run trained alone.
            checkpoint: as of :meth:`checkpoint`.

        Raises:
            UserError: the config names no network that can be built, or the checkpoint is that of another.
        """
        from sgdlit.runs.networks import trained_network

        if member and (self.alone or member >= len(self.members)):
            raise UserError(f"member: {member} does not exist in {self.folder}")
        point = {} if self.alone else self.members[member].point
        return trained_network(self.config, point, self.checkpoint(checkpoint), member)

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{self.folder}: not the folder of a run: {name} is missing") from error


def _measured(rows: list[dict[str, str]], name: str, member: int | None) -> tuple[np.ndarray, np.ndarray]:
    own = [row for row in rows if row[name] and (member is None or row["member"] == str(member))]
    steps, values = [int(row["step"]) for row in own], [float(row[name]) for row in own]
    return np.array(steps, np.int64), np.array(values, np.float64)
