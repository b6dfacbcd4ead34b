"""The folder of a run: the names of its files, making it, its lock, its config and its status."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sgdlit.foundations.console import warn
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import write_atomically
from sgdlit.foundations.locks import Locks, NoLocks
from sgdlit.foundations.seals import sealed

CONFIG = "config.yaml"
STATUS = "status.json"
METRICS = "metrics.csv"
MEMBERS = "members.csv"
MEASURES = "measures.csv"
_LOCK = "writer.lock"
_VERSION = "version_"

ENDED = ("finished", "diverged")
"""The states of a run that is over; ``running``, ``stopped`` and ``failed`` ones may be gone on with."""


def checkpoint_path(folder: Path, name: str) -> Path:
    """The file of the checkpoint ``best`` or ``resume``."""
    return folder / "checkpoints" / f"{name}.ckpt"


def evaluation_path(folder: Path, command: str) -> Path:
    """Where the command ``test`` or ``validate`` keeps what it found."""
    return folder / f"{command}.json"


def make_next(logs: Path, name: str) -> Path:
    """Make the next free ``logs/name/version_k``, also when several processes try at once.

    Raises:
        UserError: the folder cannot be written.
    """
    parent = logs / name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        k = max((version(path) for path in versions(parent)), default=-1) + 1
        while True:
            try:
                (parent / f"{_VERSION}{k}").mkdir()
                return parent / f"{_VERSION}{k}"
            except FileExistsError:
                k += 1
    except OSError as error:
        raise UserError(
            f"logs: {str(logs)!r} cannot be written ({error.strerror}: {error.filename}); "
            "allowed: a folder that you may write to, given with --logs DIR"
        ) from error


def versions(parent: Path) -> list[Path]:
    """The folders ``version_k`` in ``logs/name``, by k."""
    found = [path for path in parent.glob(f"{_VERSION}*") if path.name.removeprefix(_VERSION).isdigit()]
    return sorted(found, key=version)


def version(folder: Path) -> int:
    """k of ``version_k``."""
    return int(folder.name.removeprefix(_VERSION))


class BeingWritten(UserError):
    """Another process writes the folder of the run."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process from writing the folder; a process that is killed leaves no lock.

    Raises:
        BeingWritten: by another process.
    """
    locks = Locks(folder / _LOCK)
    try:
        if not _taken(locks):
            raise BeingWritten(
                f"{folder}: {locks.noted() or 'another process'} is writing this run; wait until it ends, or "
                "stop it (a SIGTERM lets it write a checkpoint first)"
            )
        locks.note(f"process {os.getpid()} on {platform.node()}\n")
        yield
        locks.note("")
    finally:
        locks.close()


def _taken(locks: Locks) -> bool:
    try:
        return locks.take("run")
    except NoLocks as error:
        warn(str(error))
        return True


def write_config(folder: Path, text: str, step: int) -> None:
    """Keep the config; one that differs from that of the beginning is kept beside it.

    Args:
        folder: of the run.
        text: the whole config as YAML.
        step: at which the run begins, or goes on.
    """
    path = folder / CONFIG
    if path.exists() and path.read_text(encoding="utf-8") != text:
        path = folder / f"config_from_step_{step}.yaml"
    write_atomically(path, text)


def write_failure(folder: Path, step: int, why: str) -> None:
    """Record that a run failed, on a full disk in the place of what the file said.

    Raises:
        OSError: the file cannot be written at all.
    """
    try:
        write_status(folder, "failed", step, error=why)
    except OSError:
        with (folder / STATUS).open("r+", encoding="utf-8") as file:
            file.write(_status("failed", step, error=why))
            file.truncate()


def write_status(folder: Path, state: str, step: int, **facts: Any) -> None:
    """Record how the run stands: ``state`` is running, finished, stopped, diverged or failed."""
    write_atomically(folder / STATUS, _status(state, step, **facts))


def _status(state: str, step: int, **facts: Any) -> str:
    return json.dumps(sealed({"state": state, "step": step, **facts}), indent=1) + "\n"
