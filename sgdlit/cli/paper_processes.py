"""Several papers at a time: a process for each, whose words are printed when it has ended.

Processes share nothing but the folder of what is written, in which each paper has its own.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sgdlit.foundations.console import say
from sgdlit.foundations.progress import Progress
from sgdlit.foundations.threads import threads_for

_POLL_SECONDS = 0.2
_SIGNALLED = 128
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class _Paper:
    """One that is being checked."""

    name: str
    process: subprocess.Popen
    out: Path
    err: Path


def check_in_processes(commands: Mapping[str, Sequence[str]], jobs: int) -> int:
    """Run the command of each paper, ``jobs`` at a time; the highest of their exit codes.

    Args:
        commands: by paper, in the order in which they are begun: arguments of ``python -m sgdlit``.
        jobs: how many at a time.

    Raises:
        KeyboardInterrupt: a signal came; it was passed on, and all processes have ended.
    """
    waiting, running, codes = list(commands.items()), list[_Paper](), [0]
    stopped = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopped
        stopped = True
        for paper in running:
            if paper.process.poll() is None:
                paper.process.send_signal(number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        with tempfile.TemporaryDirectory() as logs, Progress("papers", len(commands)) as progress:
            while running or (waiting and not stopped):
                while waiting and len(running) < jobs and not stopped:
                    running.append(_start(*waiting.pop(0), jobs, Path(logs)))
                time.sleep(_POLL_SECONDS)
                for paper in [each for each in running if each.process.poll() is not None]:
                    running.remove(paper)
                    codes.append(_ended(paper))
                progress.update(len(commands) - len(waiting) - len(running))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for paper in running:  # only where something unforeseen was raised
            paper.process.kill()
    if stopped:
        raise KeyboardInterrupt
    return max(codes)


def _start(name: str, arguments: Sequence[str], jobs: int, logs: Path) -> _Paper:
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(threads_for(jobs)))
    out, err = logs / f"{name}.out", logs / f"{name}.err"
    with out.open("w") as printed, err.open("w") as said:
        # Of a session of its own: Ctrl-C reaches it once, passed on by this process.
        process = subprocess.Popen(
            [sys.executable, "-m", "sgdlit", *arguments],
            env=environment, stdin=subprocess.DEVNULL, stdout=printed, stderr=said, start_new_session=True,
        )  # fmt: skip
    return _Paper(name, process, out, err)


def _ended(paper: _Paper) -> int:
    """Print what it had to say, and all of its standard error where it failed; its exit code."""
    printed, said = (path.read_text(encoding="utf-8", errors="replace") for path in (paper.out, paper.err))
    code = paper.process.returncode
    if printed:
        print(f"{paper.name}:\n{printed}", end="", flush=True)
    for line in said.splitlines():
        if code not in (0, 2) or line.startswith("sgdlit: "):
            say(f"{paper.name}: {line.removeprefix('sgdlit: ')}")
    return code if code >= 0 else _SIGNALLED - code
