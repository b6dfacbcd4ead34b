"""How far the runs are that workers have in flight: each notes it beside the store, and others read it."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from sgdlit.sweeps.store import Store


class InFlight:
    """The note of this process about one call, which is gone when the call is over.

    Args:
        store: in which it works.
        runs: how many are trained in the call.
    """

    def __init__(self, store: Store, runs: int) -> None:
        self._path, self._runs = _path(store, os.getpid()), runs

    def __enter__(self) -> "InFlight":
        self.tell(0.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)

    def tell(self, part: float) -> None:
        """Note that this part of the call is done, from 0 to 1."""
        self._path.write_text(f"{part * self._runs:.4f}\n")


def in_flight(store: Store, processes: Iterable[int]) -> float:
    """How many runs, with fractions, processes of this machine have done in the calls that they are at."""
    return sum(_read(_path(store, process)) for process in processes)


def forget_all(store: Store) -> None:
    """Remove the notes of processes that were killed; one that is at work notes again how far it is."""
    for note in (store.folder / "work").glob("in_flight_*"):
        note.unlink(missing_ok=True)


def _path(store: Store, process: int) -> Path:
    return store.folder / "work" / f"in_flight_{process}"


def _read(path: Path) -> float:
    try:
        return float(path.read_text())
    except (OSError, ValueError):  # not there, or being written
        return 0.0
