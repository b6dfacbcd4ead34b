"""How far a sweep is: cells done, the one in flight, time passed and left."""

import sys
import time
from types import TracebackType
from typing import Any

from sgdlit.foundations.console import PRINT_SECONDS, clock_face


class SweepProgress:
    """A bar on a terminal; elsewhere a line now and then. A context manager.

    Args:
        total: cells to run.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._start = self._printed = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> "SweepProgress":
        if sys.stderr.isatty() and self.total:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
            self._bar = Progress(*columns, console=Console(stderr=True), refresh_per_second=4, transient=True)
            self._task = self._bar.add_task("", total=self.total, text=self._text(0.0, ""))
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def within(self, fraction: float, text: str) -> None:
        """How far the cells in flight are together, in cells, and the latest numbers of one."""
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done + fraction, text=self._text(fraction, text))
        elif self.total and time.monotonic() - self._printed > PRINT_SECONDS:
            self._printed = time.monotonic()
            # Not by say: the terminal is lent to this, and what says something meanwhile is a run.
            print(self._text(fraction, text), file=sys.stderr, flush=True)

    def finished(self, cells: int) -> None:
        self.done += cells
        self.within(0.0, "")

    def _text(self, fraction: float, text: str) -> str:
        passed, done = time.monotonic() - self._start, self.done + fraction
        left = f", about {clock_face(passed / done * (self.total - done))} left" if done > 0 else ""
        latest = f"  ({text})" if text else ""
        return f"{self.done}/{self.total} runs  {clock_face(passed)} passed{left}{latest}"
