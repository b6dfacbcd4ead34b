"""How far something is: the one way in which anything shows it (items, steps, runs of a sweep, claims).

On a terminal it is a bar; elsewhere (a log file, a job of a cluster) a line is printed every 20 seconds. Both
tell the time that has passed and the time that is left::

    steps 3000/10000  0:42 passed, 1:38 left  train/loss 0.31

Everything goes to standard error. While a command has the terminal for many runs
(:func:`sgdlit.foundations.console.lent_to`), what begins meanwhile shows nothing.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from sgdlit.foundations.console import Report, clock_face, is_quiet, listener

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

T = TypeVar("T")

PRINT_SECONDS = 20.0
"""How often a line is printed where no bar can be drawn."""
DRAW_SECONDS = 0.25
"""How often a bar changes at most."""
_ENOUGH = 0.01  # the share of the parts from which the first alone, and what made them ready, are a pace


class Progress:
    """A bar on a terminal, elsewhere a line now and then; between ``start`` and ``stop``, or in a ``with``.

    Args:
        what: what is counted, such as ``steps``.
        total: how many there are; None or infinity where nobody knows.
        done: how many were done before the time began to count, such as the step that a run goes on from.
        told: called with the fraction that is done and the latest numbers, instead of showing anything.
        hidden: show nothing.
        stays: the bar stays on the screen when the work is over, instead of leaving it.
        clock: the time in seconds.
    """

    def __init__(
        self,
        what: str = "",
        total: float | None = None,
        *,
        done: float = 0,
        told: Report | None = None,
        hidden: bool = False,
        stays: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.done = done
        self._told, self._hidden, self._stays, self._clock = told, hidden, stays, clock
        self._bar: RichProgress | None = None
        self._begin(what, total, done)
        self._shown_at = self._started_at

    def _begin(self, what: str, total: float | None, done: float) -> None:
        self.what, self.done, self._done_before = what, done, done
        self.total = None if total is None or math.isinf(total) else total
        self._started_at = self._clock()
        self._first: tuple[float, float] | None = None  # when parts were first shown, and how many

    def start(self) -> "Progress":
        """Draw the bar, where there is a terminal that belongs to nobody else."""
        self._begin(self.what, self.total, self._done_before)
        self._shown_at = self._started_at
        self._hidden |= self.total == 0 or (self._told is None and (listener() is not None or is_quiet()))
        if self._told is None and not self._hidden and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as RichProgress

            columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
            console = Console(stderr=True)
            self._bar = RichProgress(
                *columns, console=console, refresh_per_second=4, transient=not self._stays
            )
            self._task = self._bar.add_task(self._text(""), total=self.total)
            self._bar.start()
        return self

    def stop(self) -> None:
        """Take the bar away; may be called twice."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> "Progress":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed to show something again: ask before numbers are put together."""
        printed = self._told is None and self._bar is None
        seconds = PRINT_SECONDS if printed else DRAW_SECONDS
        return not self._hidden and self._clock() - self._shown_at >= seconds

    def update(self, done: float, latest: str = "") -> None:
        """``done`` parts are done; it is shown if that is due.

        Args:
            done: how many, with fractions where a part is under way.
            latest: the latest numbers in words.
        """
        self.done = done
        if self.is_due:
            self.show(done, latest)

    def stage(self, what: str, done: float, total: float) -> None:
        """``done`` of ``total`` parts of ``what``, for work in stages: another ``what`` counts anew."""
        if what != self.what:
            self._begin(what, total, 0)
        self.total = total
        self.update(done)

    def show(self, done: float, latest: str = "", at_most: float | None = None) -> None:
        """Show that ``done`` parts are done, due or not.

        Args:
            done: how many.
            latest: the latest numbers in words.
            at_most: seconds after which the work ends in any case, such as a time limit's.
        """
        self.done, self._shown_at = done, self._clock()
        if self._first is None and done > self._done_before:
            self._first = self._shown_at, done
        if self._hidden:
            return
        if self._told is not None:
            self._told(done / self.total if self.total else float(self.total == 0), latest)
        elif self._bar is not None:
            text = self._text(latest, at_most)
            self._bar.update(self._task, completed=done, total=self.total, description=text)
        else:
            print(self._text(latest, at_most), file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Write ``text`` beside the bar, where there is one: what takes a while now."""
        if self._bar is not None:
            self.show(self.done, text)

    def _text(self, latest: str, at_most: float | None = None) -> str:
        passed = self._clock() - self._started_at
        total = "" if self.total is None else f"/{self.total:.0f}"
        left = self._seconds_left(at_most)
        times = f"{clock_face(passed)} passed" + ("" if left is None else f", {clock_face(left)} left")
        return "  ".join(filter(None, (f"{self.what} {math.floor(self.done)}{total}".strip(), times, latest)))

    def _seconds_left(self, at_most: float | None) -> float | None:
        """By the pace since parts were first shown: until then, things were made ready too."""
        estimates = [] if at_most is None else [at_most]
        if self._first is not None and self.total is not None:
            since, before = self._first
            passed, done = self._clock() - since, self.done - before
            if done <= 0 and before >= _ENOUGH * self.total:  # the first parts alone
                passed, done = since - self._started_at, before - self._done_before
            if done > 0:
                estimates.append(passed / done * (self.total - self.done))
        return max(0.0, min(estimates)) if estimates else None


def track(items: Sequence[T], what: str) -> Iterator[T]:
    """Iterate over items, and show how many are done."""
    with Progress(what, len(items)) as progress:
        for i, item in enumerate(items):
            yield item
            progress.update(i + 1)
