"""``python -m tests.long [GOAL ...] --cases N --minutes M --seed S``: break the program, and count.

A line for each goal: how many cases were tried, how many held, and what the others did. The exit code is 1
where one did not hold. Case k of a seed is always the same; ``--first K`` begins with it.
"""

import argparse
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from long.goals import GOALS, Goal  # tests/ itself is on the path, as in conftest.py

SHOWN = 20  # of the cases that went wrong


def run(goal: Goal, cases: int, seconds: float, seed: int, first: int = 0) -> tuple[int, list[str]]:
    """How many cases were tried until their number or the time was up, and what went wrong in which."""
    end, wrong, done = time.monotonic() + seconds, [], 0
    for number in range(first, first + cases):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = goal.case(random.Random(f"{goal.name} {seed} {number}"), Path(folder), number)
        done += 1
        wrong += [f"case {number}: {'; '.join(found)}"] if found else []
        if time.monotonic() > end:
            break
    return done, wrong


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
