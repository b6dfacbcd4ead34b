"""``load_run(folder)``: what a run left, read back in plain Python.

    run = sgdlit.load_run("logs/run/version_0")
    run.value("model.optimizer.lr")          # 0.1
    steps, values = run.column("test/loss")
    pandas.DataFrame(run.metrics)
    inputs, targets = run.data().tensors("test")
    run.network()(inputs)
    run.network(step=run.snapshots[0])       # as it was at the start, where the run kept snapshots

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
from sgdlit.foundations.errors import UserError, nearest, with_allowed
from sgdlit.foundations.files import read_table
from sgdlit.foundations.seals import unsealed
from sgdlit.runs.folder import CONFIG, MEASURES, METRICS, STATUS, checkpoint_path, versions
from sgdlit.runs.measures_file import SETTINGS, by_settings
from sgdlit.runs.outcomes import Columns, Outcome
from sgdlit.runs.snapshots import snapshot_steps

if TYPE_CHECKING:
    from torch import nn

    from sgdlit.data.keyed_data import KeyedData

_KEYS = ("step", "member")  # the columns that say whose row it is
_NOT_REACHED = ("state", "step", "members", "error")  # of a status; all else is what a run reached


def load_run(folder: str | Path) -> "Run":
    """The run in a folder, ``logs/NAME/version_K``.

    Raises:
        UserError: the folder is not that of a run.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file() and not (folder / STATUS).is_file():
        near = [str(path) for path in versions(folder)] or _runs_near(folder)
        raise UserError(with_allowed(f"{folder}: not the folder of a run: {CONFIG} is missing", near))
    return Run(folder)


def _runs_near(folder: Path) -> list[str]:
    """The runs beside a folder ``logs/NAME/version_k``, or in ``logs``, whose name is nearly its own."""
    roots = Path("logs"), folder.parent.parent
    known = {path.parent.name: path.parent for root in roots for path in root.glob("*/version_*")}
    near = nearest(folder.parent.name, known)
    return [str(path) for path in versions(known[near])] if near else []


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
            UserError: ``config.yaml`` is missing, or holds no options.
        """
        path, text = self.folder / CONFIG, self._text(CONFIG)
        try:
            config = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{path}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
        if not isinstance(config, dict):
            raise UserError(f"{path}: not the config of a run, whose options are missing")
        return config

    def value(self, key: str, member: int | None = None) -> Any:
        """What was set at a dotted key, in which ``init_args`` may be left out; None where there is nothing.

        Args:
            key: such as ``model.optimizer.lr``, or ``trainer.callbacks.IterateAverage.decay``.
            member: of an ensemble, whose own value is wanted.

        Raises:
            UserError: there is no such member.
        """
        if member is not None:
            k = self.checked_member(member)
            if key in self.members[k].point:
                return self.members[k].point[key]
        return value_at(self.config, key)

    # How it went

    @cached_property
    def status(self) -> dict[str, Any]:
        """``state`` (running, finished, stopped, diverged or failed), ``step``, and what was reached.

        Raises:
            UserError: ``status.json`` is missing, has changed, or is no status.
        """
        try:
            status = unsealed(json.loads(self._text(STATUS)), by_hand=True)
            status["state"], status["step"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.folder / STATUS}: not the status of a run, or changed since it was written"
            ) from error
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
            UserError: the run is an ensemble that has not ended once, or its status does not say how they
                ended.
        """
        status = self.status
        if "members" in status:
            try:
                ended = [
                    (dict(m["point"]), m["state"], m["step"], dict(m["reached"])) for m in status["members"]
                ]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{self.folder / STATUS}: members: not those of an ensemble") from error
            return [Outcome(*each, self._columns(k)) for k, each in enumerate(ended)]
        if not self.alone:
            raise UserError(f"{self.folder}: how its members ended is not known yet")
        reached = {name: best for name, best in status.items() if name not in _NOT_REACHED}
        return [Outcome({}, status["state"], status["step"], reached, self._columns(None))]

    def checked_member(self, k: int) -> int:
        """``k``, if that is the number of a member: 0 to K − 1, 0 of a run that was trained alone.

        Raises:
            UserError: there is no such member.
        """
        if not 0 <= k < self.count:
            allowed = f"0 to {self.count - 1}" if self.count > 1 else "0"
            raise UserError(f"member: {k} does not exist in {self.folder}; allowed: {allowed}")
        return k

    @cached_property
    def count(self) -> int:
        """How many members there are, which is known before they have ended."""
        if self.alone or "members" in self.status:
            return len(self.status.get("members", [None]))
        from sgdlit.config.axes import expand

        return len(expand(self.config["ensemble"], "ensemble"))

    # What was measured

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """``metrics.csv`` as columns of equal length, for ``pandas.DataFrame(run.metrics)``.

        There is one row for each step (and member) at which something was measured. ``step`` and, of an
        ensemble, ``member`` are int64; all others float64, NaN where nothing was measured.

        Raises:
            UserError: the file is not the table of a run.
        """
        return _as_columns(_one_a_step(self._rows))

    @cached_property
    def measured(self) -> dict[str, np.ndarray]:
        """``measures.csv``, what ``measure --run`` took afterwards, as :attr:`metrics`; empty without it.

        Two columns of text say of each row how many ``examples`` were looked at, and in which ``mode``.

        Raises:
            UserError: the file is not such a table.
        """
        path = self.folder / MEASURES
        rows = read_table(path) if path.exists() else []
        texts = {name: np.array([row.pop(name, "") for row in rows]) for name in SETTINGS}
        try:
            columns = _as_columns(rows)
        except (ValueError, KeyError) as error:
            raise UserError(f"{path}: not the table of measures of a run") from error
        return columns | texts if rows else {}

    def found(self, member: int) -> dict[str, Columns]:
        """The columns of :attr:`measured` of a member, by what they were measured on: ``500 examples``.

        Raises:
            UserError: the file is not such a table.
        """
        return by_settings(self.measured, member)

    def column(self, name: str, member: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Steps int64 ``[k]`` and values float64 ``[k]`` of one column, where it was measured.

        Args:
            name: such as ``test/loss``.
            member: of an ensemble, whose values are wanted.

        Raises:
            UserError: there is no such column or member, or the run is an ensemble and no member is named.
        """
        known = [column for column in (self._rows[0] if self._rows else ()) if column not in _KEYS]
        check_name(name, known, f"{self.folder / METRICS}", f"there is no column {name!r}")
        if member is None and "member" in self._rows[0]:
            raise UserError(f"{self.folder}: an ensemble; name the member whose {name} is wanted")
        return _measured(self._rows_of(member), name)

    def _columns(self, member: int | None) -> Columns:
        rows = self._rows_of(member)
        names = [name for name in (self._rows[0] if self._rows else ()) if name not in _KEYS]
        return {name: _measured(rows, name) for name in names}

    def _rows_of(self, member: int | None) -> list[dict[str, str]]:
        """The rows of a member, or all where none is named."""
        if member is None or (self.checked_member(member) == 0 and self.alone):
            return self._rows
        if self._rows and "member" not in self._rows[0]:
            raise UserError(
                f"{self.folder / METRICS}: not the table of an ensemble: the column member is missing"
            )
        return [row for row in self._rows if row["member"] == str(member)]

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        path = self.folder / METRICS
        rows = read_table(path) if path.exists() else []
        try:
            for row in rows:
                _check_row(row)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not the table of a run") from error
        return rows

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

    @property
    def snapshots(self) -> list[int]:
        """The steps of which there is a snapshot."""
        return snapshot_steps(self.folder)

    def snapshot(self, step: int) -> dict[str, Any]:
        """What the run was after ``step`` updates, on the host: ``state_dict``, ``optimizer_states``.

        Raises:
            UserError: there is no snapshot of this step, or it is damaged or carries code.
        """
        from sgdlit.runs.snapshots import has_snapshot, load_snapshot

        if not has_snapshot(self.folder, step):
            there = ", ".join(map(str, self.snapshots)) or "none; a run keeps them with checkpoints.snapshots"
            raise UserError(f"{self.folder}: there is no snapshot of step {step}; allowed: {there}")
        return load_snapshot(self.folder, step)

    def network(self, member: int = 0, checkpoint: str | None = None, step: int | None = None) -> "nn.Module":
        """The trained network, in eval mode, on the host.

        Args:
            member: number in the ensemble; 0 for a run trained alone.
            checkpoint: as of :meth:`checkpoint`.
            step: of a snapshot, in place of a checkpoint.

        Raises:
            UserError: there is no such member, the config names no network that can be built, or the
                checkpoint is that of another.
        """
        from sgdlit.runs.networks import trained_network

        self.checked_member(member)
        point = {} if self.alone else self.members[member].point
        content = self.checkpoint(checkpoint) if step is None else self.snapshot(step)
        return trained_network(self.config, point, content, member)

    def data(self, member: int = 0) -> "KeyedData":
        """The data that it was trained on, read anew: ``data.tensors("test")`` are inputs and targets.

        Args:
            member: number in the ensemble; 0 for a run trained alone.

        Raises:
            UserError: there is no such member, the config names no data of sgdlit that can be built, or its
                files are missing.
        """
        from sgdlit.runs.data_of_run import data_of_run

        self.checked_member(member)
        return data_of_run(self.config, {} if self.alone else self.members[member].point)

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{self.folder}: not the folder of a run: {name} is missing") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{self.folder / name}: not a text") from error


def _one_a_step(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows about the same step and member as one, unless they give two values to a column."""
    merged: list[dict[str, str]] = []
    latest: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        key = row["step"], row.get("member", "")
        held = latest.get(key)
        if held is None or any(row[name] and held[name] for name in row if name not in _KEYS):
            held = latest[key] = dict(row)
            merged.append(held)
        else:
            held.update({name: value for name, value in row.items() if value})
    return merged


def _as_columns(rows: list[dict[str, str]]) -> dict[str, np.ndarray]:
    columns = {"step": np.array([int(row["step"]) for row in rows], np.int64)}
    for name in rows[0] if rows else ():
        if name == "member":
            columns[name] = np.array([int(row[name]) for row in rows], np.int64)
        elif name != "step":
            columns[name] = np.array([float(row[name] or "nan") for row in rows], np.float64)
    return columns


def _check_row(row: dict[str, str]) -> None:
    """Fails where a line of a table is none of a run's: whole steps and members, and numbers."""
    int(row["step"]), int(row.get("member", 0))
    for name, value in row.items():
        if name not in _KEYS:
            float(value or "nan")


def _measured(rows: list[dict[str, str]], name: str) -> tuple[np.ndarray, np.ndarray]:
    own = [row for row in rows if row[name]]
    steps, values = [int(row["step"]) for row in own], [float(row[name]) for row in own]
    return np.array(steps, np.int64), np.array(values, np.float64)
