"""``python -m tests.long [GOAL ...] --cases N --minutes M --seed S``: break the program, and count.

A line for each goal: how many cases were tried, how many held, and what the others did. The exit code is 1
where one did not hold. Case k of a seed is always the same; ``--first K`` begins with it.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: a process with threads cannot fork
sys.path.insert(0, str(Path(__file__).parent.parent))

from fit_runs import Runs
from long import forks
from long.goals import GOALS, Goal, called  # tests/ itself is on the path, as in conftest.py

SHOWN = 20  # of the cases that went wrong
HANGS = 3600.0  # seconds after which a case is ended
TOLD_EVERY = 300.0  # seconds between two words about how far it is


def run(
    goal: Goal, cases: int, seconds: float, seed: int, first: int = 0, alone: bool = True
) -> tuple[int, list[str]]:
    """How many cases were tried until their number or the time was up, and what went wrong in which.

    Args:
        goal: which.
        cases: how many.
        seconds: after which no further one is begun.
        seed: of their random choices.
        first: number of the first.
        alone: whether each has a process of its own.
    """
    began = told = time.monotonic()
    wrong, done = [], 0
    with tempfile.TemporaryDirectory() as root:
        folder, kept = Path(root, "case"), Path(root, "kept")
        kept.mkdir()
        if goal.prepare is not None:
            folder.mkdir()
            _call(goal.prepare, folder, range(first, first + cases), alone=alone)
            shutil.copytree(folder, kept, dirs_exist_ok=True)
        for number in range(first, first + cases):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(kept, folder)
            found = _call(_case, goal, folder, seed, number, alone=alone)
            done += 1
            wrong += [f"case {number}: {'; '.join(found)}"] if found else []
            now = time.monotonic()
            if now - told > TOLD_EVERY:
                told = now
                say = f"{goal.name}: {done - len(wrong)} of {done} so far, {now - began:.0f} s"
                print("\n  ".join([say, *wrong[:SHOWN]]), file=sys.stderr, flush=True)
            if now - began > seconds:
                break
    return done, wrong


def _case(goal: Goal, folder: Path, seed: int, number: int) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return goal.case(random.Random(f"{goal.name} {seed} {number}"), folder, number)


def _call(function, *arguments, alone: bool):
    """What a function returns; where it is called alone and ends its process, a sentence about that."""
    if not alone:
        return function(*arguments)
    try:
        return forks.result(lambda: function(*arguments), HANGS)
    except (TimeoutError, ChildProcessError) as error:
        return [str(error)]


def _tiny() -> None:
    """A run and its resumption: what leads to all that a case imports."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder))
        called(runs.arguments("run"))
        called(["fit", "--resume", str(runs.path("run")), "--trainer.max_steps=21"])


def main() -> int:
    """Run the goals; 1 where a case did not hold."""
    names = {goal.name: goal for goal in GOALS}
    parser = argparse.ArgumentParser(prog="python -m tests.long", description=__doc__.split("\n\n")[1])
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=f"of {', '.join(names)}; none: all of them")
    parser.add_argument("--cases", type=int, help="of each goal (default: as many as make its figure)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="for each goal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    given = parser.parse_args()
    unknown = [name for name in given.goals if name not in names]
    if unknown:
        parser.error(f"there is no goal {unknown[0]}; allowed: {', '.join(names)}")
    bad = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and nothing is left behind
    forks.import_as(_tiny)
    for name in given.goals or names:
        goal, began = names[name], time.monotonic()
        cases = given.cases or goal.cases
        done, wrong = run(goal, cases, 60 * given.minutes, given.seed, given.first)
        line = f"{name}: {done - len(wrong)} of {done} ({goal.says}); figure {goal.cases}"
        print(f"{line}; {time.monotonic() - began:.0f} s", flush=True)
        for text in wrong[:SHOWN]:
            print(f"  {text}", flush=True)
        bad += len(wrong)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
