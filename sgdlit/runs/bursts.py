"""Rows of a run that are written some at a time: one by one, each finds the processor's caches cold."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

_SECONDS = 0.2  # after which a row is written at once, with those before it


class Bursts:
    """Rows that wait for the next ones; of a run that logs more slowly than that, none waits.

    Args:
        write: writes one row of a step. Where it fails, the row and those that wait after it are dropped.
    """

    def __init__(self, write: Callable[[Mapping[str, Any], int | None], None]) -> None:
        self._write = write
        self._waiting: list[tuple[Mapping[str, Any], int | None]] = []
        self._written = -math.inf  # when rows were written last

    def add(self, row: Mapping[str, Any], step: int | None) -> None:
        """A row that is written at the latest with the first one that comes a fifth of a second later."""
        self._waiting.append((row, step))
        if time.monotonic() - self._written > _SECONDS:
            self.write_all()

    def write_all(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        for row, step in waiting:
            self._write(row, step)
        self._written = time.monotonic()
