"""Words on the terminal: on standard error, so that a command's output can be piped.

A command that trains many runs lends the terminal to one listener: the runs are silent meanwhile, and tell
the listener how far they are.
"""

import io
import os
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


class _Lasting(io.TextIOWrapper):
    """Standard error that nothing ends: when its reader has gone, or its disk is full, it is silent."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self._fall_silent()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._fall_silent()

    def _fall_silent(self) -> None:
        """What is still in the buffer, and what C code writes, goes nowhere too."""
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, self.fileno())
        os.close(silence)


def outlast_readers() -> None:
    """Let a process go on without anybody who reads its standard error: ``fit 2>&1 | head``."""
    if sys.stderr is None:  # closed: whatever is opened next would take its place
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # for as long as the process lives
        return
    if isinstance(
        sys.stderr, io.TextIOWrapper
    ):  # the interpreter's own, and nothing that a notebook put there
        encoding, errors = sys.stderr.encoding, sys.stderr.errors
        sys.stderr = _Lasting(sys.stderr.detach(), encoding=encoding, errors=errors, line_buffering=True)


def end_output(code: int) -> int:
    """The exit code of a process whose standard output is to be whole: 141 where its reader has gone.

    Raises:
        OSError: it cannot be written, say to a full disk.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = READER_HAS_GONE
    finally:
        _silence_stdout_if_broken()
    return code


READER_HAS_GONE = 141
"""The exit code of ``python -m sgdlit configs | head -1``, as of a process that SIGPIPE ended."""


def _silence_stdout_if_broken() -> None:
    """Keep the interpreter from complaining of it once more."""
    try:
        sys.stdout.flush()
    except OSError:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, sys.stdout.fileno())
        os.close(silence)


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
