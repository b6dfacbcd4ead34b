"""Processes that are forked from one that has imported what they need, and computes nothing itself.

Each is as alone as one that Python starts anew, and costs what it does, not what it would import first.
"""

import contextlib
import importlib
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

_FAILED = 70  # exit code of a function that raised
_POLL_SECONDS = 0.02


class Fork:
    """A function in a process of its own, with what ``subprocess.Popen`` has: pid, poll, wait, kill.

    Args:
        function: what it does; what it returns is the exit code.
        out: file for standard output and error; None leaves them.
        environment: variables of the process.
    """

    def __init__(
        self,
        function: Callable[[], int],
        out: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_in_child(function, out, environment or {}))

    def poll(self) -> int | None:
        """The exit code, negative that of the signal which ended it; None as long as it goes on."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        """As :meth:`poll`, once it has ended."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise TimeoutExpired("a fork", timeout)
            time.sleep(_POLL_SECONDS)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _in_child(function: Callable[[], int], out: Path | None, environment: Mapping[str, str]) -> int:
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ.update(environment)
        if out is not None:
            descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout, sys.stderr = (os.fdopen(k, "w", buffering=1, closefd=False) for k in (1, 2))
        return function()
    except BaseException:
        with contextlib.suppress(OSError):
            traceback.print_exc()
        return _FAILED
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def command(
    arguments: Sequence[str], folder: Path, out: Path, environment: Mapping[str, str] | None = None
) -> Fork:
    """``python -m sgdlit ARGUMENTS`` in a folder."""

    def run() -> int:
        from sgdlit.cli.main import process

        os.chdir(folder)
        sys.argv = ["sgdlit", *arguments]
        return process()

    return Fork(run, out, environment)


def result(function: Callable[[], Any], seconds: float) -> Any:
    """What a function returns, called in a process group of its own, of which nothing is left afterwards.

    Raises:
        TimeoutError: it takes longer.
        ChildProcessError: it raised, or was ended by a signal.
    """
    reader, writer = os.pipe()

    def told() -> int:
        os.setpgid(0, 0)
        os.close(reader)
        found = function()
        with os.fdopen(writer, "wb") as file:
            pickle.dump(found, file)
        return 0

    child = Fork(told)
    os.close(writer)
    try:
        content = _all_of(reader, time.monotonic() + seconds)
        if not content:
            raise ChildProcessError(f"the case ended with code {child.wait(seconds)}")
        return pickle.loads(content)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _all_of(reader: int, end: float) -> bytes:
    content = b""
    while True:
        if not select.select([reader], [], [], max(0.0, end - time.monotonic()))[0]:
            raise TimeoutError("hangs: it came to no end")
        part = os.read(reader, 2**16)
        if not part:
            return content
        content += part


def import_as(function: Callable[[], Any]) -> None:
    """Import here what a function leads to, without computing anything here: no thread is begun."""

    def modules() -> list[str]:
        function()
        return list(sys.modules)

    for name in result(modules, 600.0):
        if name not in sys.modules and not name.startswith("__"):
            with contextlib.suppress(Exception):  # such as stand-ins, and parts that no import names
                importlib.import_module(name)
