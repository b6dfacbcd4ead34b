"""Words and progress on the terminal: on standard error, so that a command's output can be piped."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
Report = Callable[[float, str], None]

_report: Report | None = None  # who has the terminal instead
_warned: set[str] = set()

PRINT_SECONDS = 20.0
"""How often progress is printed where it cannot be drawn."""


def say(text: str) -> None:
    if _report is None:
        print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    if _report is None or text not in _warned:
        print(f"sgdlit: warning: {text}", file=sys.stderr, flush=True)
    _warned.add(text)


@contextmanager
def lent_to(report: Report) -> Iterator[None]:
    """While a command trains many runs: a run says nothing, warns once, and tells ``report`` how far it is.

    Args:
        report: called with the fraction that is done and the latest numbers in words.
    """
    global _report
    before, _report = _report, report
    try:
        yield
    finally:
        _report = before


def listener() -> Report | None:
    """Who wants to know how far a run is; None where the run draws its own progress."""
    return _report


def clock_face(seconds: float) -> str:
    """``h:mm:ss``, or ``m:ss`` below an hour."""
    minutes, second = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"


class ProgressLines:
    """Progress in a log file: a line every twenty seconds, with the time that is left."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._what = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` parts of ``what``; another ``what`` begins to count anew."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._start = what, now
        if now - self._last >= PRINT_SECONDS and done:
            passed, self._last = now - self._start, now
            left = clock_face(passed / done * (total - done))
            say(f"{what} {done}/{total}  {clock_face(passed)} passed, {left} left")


def track(items: Sequence[T], description: str) -> Iterable[T]:
    """Iterate with a progress bar and an ETA, which leave the screen when the work is done."""
    drawn = sys.stderr.isatty() and len(items) > 1 and _report is None
    return _tracked(items, description) if drawn else items


def _tracked(items: Sequence[T], description: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description, console=Console(stderr=True), transient=True)
