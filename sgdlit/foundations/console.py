"""Words on the terminal: on standard error, so that a command's output can be piped.

A command that trains many runs lends the terminal to one listener: the runs are silent meanwhile, and tell
the listener how far they are.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[float, str], None]
"""``report(fraction, numbers)``: the fraction of a run that is done, and its latest numbers in words."""

_report: Report | None = None  # who has the terminal instead
_warned: set[str] = set()
_quiet = False


def say(text: str) -> None:
    """Print a line, unless the terminal is lent, or nothing is to be said."""
    if _report is None and not _quiet:
        print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning; once only while the terminal is lent, since many runs would say the same."""
    if _report is None or text not in _warned:
        print(f"sgdlit: warning: {text}", file=sys.stderr, flush=True)
    _warned.add(text)


@contextmanager
def quiet() -> Iterator[None]:
    """Only warnings and mistakes are told meanwhile, and no progress is shown."""
    global _quiet
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before


def is_quiet() -> bool:
    """Whether only warnings and mistakes are told."""
    return _quiet


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
