"""A busy machine: the same work beside as many other busy processes as this one may use cores."""

import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.common import Row, medians, relative_to_first
from benchmarks.fit import fit_step
from benchmarks.networks import CASES
from benchmarks.sensing import fitted
from sgdlit.foundations.threads import usable_cores

_AT_MOST = 3.0  # times the idle machine: with one core shared by two, twice is fair


def busy_machine(rounds: int, compiled: bool) -> list[Row]:
    """A step of matrix sensing, and of a WRN-10-1, each through fit."""
    rows: list[Row] = []
    count = usable_cores()
    works: dict[str, Callable[[], float]] = {
        "sensing d=256, a step": lambda: fitted(256, 8192, 2e-8),
        "fit, WRN-10-1, B=32": lambda: fit_step(CASES[0], 0.0),
    }
    for name, work in works.items():
        both = {"idle": work, f"beside {count} busy processes": lambda w=work: beside(count, w)}
        targets = dict.fromkeys(list(both)[1:], _AT_MOST)
        rows += relative_to_first(medians(both, min(rounds, 3)), f"busy machine, {name}", targets=targets)
    return rows


def beside(count: int, work: Callable[[], float]) -> float:
    """What the work measures while so many processes do nothing but count."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.5)  # until they run
        return work()
    finally:
        for other in others:
            other.kill()
            other.wait()
