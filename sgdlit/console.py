"""Words and progress on the terminal: on standard error, so that a command's output can be piped."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

PRINT_SECONDS = 20.0
"""How often progress is printed where it cannot be drawn."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    say(f"sgdlit: warning: {text}")


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
    return _tracked(items, description) if sys.stderr.isatty() and len(items) > 1 else items


def _tracked(items: Sequence[T], description: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description, console=Console(stderr=True), transient=True)
