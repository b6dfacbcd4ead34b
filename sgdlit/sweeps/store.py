"""The folder of a sweep: everything that is known about its finished runs, in files that a person can read.

    store.json           the format of the folder
    plan.json            which runs belong to the sweep, as it was last planned
    runs/KEY.json        one line per finished run: its point, seed, metrics, how it ended, what made it, and
                         a digest of the line
    curves/KEY.npz       its metrics over steps: ``NAME`` float64 [k] and ``NAME@step`` int64 [k]
    configs/KEY.yaml     the ``fit`` config that repeats it
    work/                the folders of runs in flight
    replaced/            runs that were asked for once more
    cells.lock           which runs are in flight: a locked byte for each

``runs/KEY.json`` is written last, to a temporary name, and renamed: a run is stored whole or not at all.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import write_atomically
from sgdlit.foundations.seals import sealed, unsealed
from sgdlit.runs.outcomes import Columns

FORMAT = 1
_FOLDERS = ("runs", "curves", "configs", "work", "replaced")


@dataclass(frozen=True)
class Result:
    """A finished run.

    Args:
        key: what decides its numbers, hashed, and its seed.
        point: the values of its axes, without the seed.
        seed: ``seed_everything``.
        state: ``finished`` or ``diverged``.
        step: updates made; of a diverged run, those after which its loss was not finite.
        reached: its records.
        metrics: name -> ``final``, ``lowest`` and ``highest`` value over the run (None where not finite).
        seconds: wall time; of a member of an ensemble its share.
        made_by: versions, device, revision of the program, and when.
    """

    key: str
    point: dict[str, Any]
    seed: int
    state: str
    step: int
    reached: dict[str, float]
    metrics: dict[str, dict[str, float | None]]
    seconds: float
    made_by: dict[str, Any]


class DamagedCurve(UserError):
    """The file with the curves of a run cannot be read."""


class Store:
    """The finished runs of one sweep.

    Raises:
        UserError: the folder holds something else, was written by a newer version, or cannot be written.
    """

    def __init__(self, folder: Path, create: bool = False) -> None:
        self.folder = folder
        self._open(create)

    def _open(self, create: bool) -> None:
        path = self.folder / "store.json"
        if not path.exists():
            if not create:
                raise UserError(
                    f"{self.folder}: no sweep is stored there; python -m sgdlit sweep --config FILE runs one"
                )
            of_others = self.folder.is_dir() and not self._is_half_made()
            if of_others and not path.exists():  # looked for once more: another sweep may have just made it
                raise UserError(
                    f"--store: {str(self.folder)!r} holds other files than a sweep's; allowed: an empty "
                    "or a new folder"
                )
            if not of_others:
                self._make()
        try:
            version = json.loads(path.read_text())["format"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(f"{path}: cannot be read, so what the folder holds is not known") from error
        if version != FORMAT:
            raise UserError(
                f"{path}: format {version}, written by a newer sgdlit than this one, which knows format "
                f"{FORMAT}; use that version, or another --store"
            )

    def _is_half_made(self) -> bool:
        """Whether there is nothing but empty folders of a store, whose maker was killed."""
        there = [path for path in self.folder.iterdir() if not path.name.startswith(".store.json.")]
        return all(path.name in _FOLDERS and path.is_dir() and not any(path.iterdir()) for path in there)

    def _make(self) -> None:
        try:
            for name in _FOLDERS:
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / "store.json", json.dumps({"format": FORMAT}) + "\n")
        except OSError as error:
            raise UserError(
                f"--store: {str(self.folder)!r} cannot be written ({error.strerror}: {error.filename}); "
                "allowed: a folder that you may write to"
            ) from error

    # Reading

    def has(self, key: str) -> bool:
        return self._run(key).exists()

    def read(self) -> tuple[dict[str, Result], list[Path]]:
        """All results by key, and the files that are none (cut off, or changed by hand)."""
        results, damaged = {}, []
        for path in sorted((self.folder / "runs").glob("*.json")):
            if path.name.startswith("."):
                continue
            try:
                result = Result(**unsealed(json.loads(path.read_text())))
                if result.key != path.stem or not isinstance(result.metrics, dict):
                    raise ValueError(f"the key is {result.key}")
                results[result.key] = result
            except (ValueError, TypeError, OSError):
                damaged.append(path)
        return results, damaged

    def curve(self, key: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps int64 ``[k]`` and values float64 ``[k]`` of one metric of one run; empty where it has none.

        Raises:
            DamagedCurve: the file is missing or damaged.
        """
        path = self.folder / "curves" / f"{key}.npz"
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                if name not in arrays:
                    return np.empty(0, np.int64), np.empty(0)
                return arrays[f"{name}@step"], arrays[name]
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise DamagedCurve(f"{path}: cannot be read; run the cell again with --rerun") from error

    # Writing

    def write_config(self, key: str, text: str) -> Path:
        """Keep the ``fit`` config of a run; its path."""
        path = self.folder / "configs" / f"{key}.yaml"
        if not path.exists() or path.read_text() != text:
            write_atomically(path, text)
        return path

    def write(self, result: Result, columns: Columns) -> None:
        """Keep a finished run: its curves, then, in one instant, itself."""
        arrays = {name: values for name, (_, values) in columns.items()}
        arrays |= {f"{name}@step": steps for name, (steps, _) in columns.items()}
        path = self.folder / "curves" / f"{result.key}.npz"
        partial = path.with_name(f".{path.stem}.{os.getpid()}.npz")
        np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]  # numpy: allow_pickle, no array's name
        os.replace(partial, path)
        write_atomically(self._run(result.key), json.dumps(sealed(asdict(result)), allow_nan=False) + "\n")

    def set_aside(self, keys: Iterable[str]) -> None:
        """Take results out of the store, so that their cells are run once more."""
        for key in keys:
            os.replace(self._run(key), self.folder / "replaced" / f"{key}.json")

    def _run(self, key: str) -> Path:
        return self.folder / "runs" / f"{key}.json"


def summary_of(columns: Columns) -> dict[str, dict[str, float | None]]:
    """Final, lowest and highest value of every metric that has any."""
    summaries = {}
    for name, (_, values) in columns.items():
        finite = values[np.isfinite(values)]
        numbers = {"final": values[-1]} if len(values) else {}
        if len(finite):
            numbers |= {"lowest": finite.min(), "highest": finite.max()}
        if numbers:
            summaries[name] = {k: float(v) if np.isfinite(v) else None for k, v in numbers.items()}
    return summaries
