"""Arrays that measures leave in the folder of a run, one file for each step.

    measures/NAME/about.json                 what it is: formula, axes, examples, mode, type, seed, version
    measures/NAME/step_000001000.npy         of a run that was trained alone
    measures/NAME/step_000001000_member_2.npy

Every file is there whole or not at all, and none holds more than numbers. After its numbers, where
``numpy.load`` does not look, each array has a digest of what comes before.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import write_atomically
from sgdlit.foundations.seals import sealed, unsealed

FOLDER = "measures"
_ABOUT = "about.json"
_DIGEST_SIZE = 16
_NAME = re.compile(r"step_(\d+)(?:_member_(\d+))?\.npy")


class HasFolder(Protocol):
    """A run on disk, such as ``sgdlit.load_run`` gives it."""

    @property
    def folder(self) -> Path:
        """Where it is."""


class Arrays(NamedTuple):
    """What one measure left of a run, or of a member.

    Attributes:
        about: what the arrays are.
        steps: at which they were taken, int64 ``[k]``, rising.
        values: one for each step; ``[k, ...]`` where all are of one shape, else a list of k arrays.
    """

    about: dict[str, Any]
    steps: np.ndarray
    values: Any


def load(run: HasFolder | str | Path, member: int | None = None) -> dict[str, Arrays]:
    """The arrays of a run by name; none where there are none.

    Args:
        run: the run or its folder.
        member: of an ensemble, whose arrays are wanted.

    Raises:
        UserError: a file that is none of these, or an ensemble and no member.
    """
    root = (Path(run) if isinstance(run, str | Path) else run.folder) / FOLDER
    found = {}
    for folder in sorted(path.parent for path in root.glob(f"*/{_ABOUT}")):
        files = dict(_files(folder))
        members = {k for _, k in files.values()}
        if member is None and members - {None}:
            raise UserError(f"{folder}: of an ensemble; name the member whose arrays are wanted")
        own = sorted((step, path) for path, (step, k) in files.items() if k == member)
        values = [_read(path) for _, path in own]
        alike = len({value.shape for value in values}) == 1
        steps = np.array([step for step, _ in own], np.int64)
        about = _read_about(folder / _ABOUT)
        found[folder.name] = Arrays(about, steps, np.stack(values) if alike else values)
    return found


def write_array(folder: Path, name: str, step: int, member: int | None, array: np.ndarray) -> None:
    """Keep an array of a step in the folder of a run; its ``about.json`` is written apart."""
    whose = "" if member is None else f"_member_{member}"
    path = folder / FOLDER / name / f"step_{step:09d}{whose}.npy"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            file.write(content.getbuffer())
            file.write(_digest(content.getbuffer()))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_about(folder: Path, name: str, about: dict[str, Any]) -> None:
    """Say what the arrays of a name are."""
    path = folder / FOLDER / name / _ABOUT
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(sealed(about), indent=1, ensure_ascii=False) + "\n")


def drop_after(folder: Path, step: int) -> None:
    """Delete the arrays of later steps, which a resumed run measures again."""
    for own in sorted((folder / FOLDER).glob("*/")):
        for path, (when, _) in _files(own):
            if when > step:
                path.unlink()


def _files(folder: Path) -> Iterator[tuple[Path, tuple[int, int | None]]]:
    """The arrays of a name, each with its step and member."""
    for path in folder.glob("step_*.npy"):
        found = _NAME.fullmatch(path.name)
        if found:
            yield path, (int(found[1]), None if found[2] is None else int(found[2]))


def _read_about(path: Path) -> dict[str, Any]:
    try:
        return unsealed(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not what a measure wrote ({error})") from error


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_SIZE).digest()


def _read(path: Path) -> np.ndarray:
    try:
        content = path.read_bytes()
        numbers = memoryview(content)[:-_DIGEST_SIZE]
        if content[-_DIGEST_SIZE:] != _digest(numbers):
            raise ValueError("cut off, or changed since it was written")
        return np.load(io.BytesIO(numbers), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not an array of numbers ({error})") from error
