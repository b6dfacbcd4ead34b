"""Everything that a GPU decides, unattended: see ``scripts/gpu_check.sh``, which calls this.

    python scripts/gpu_check.py --out report.md             # all parts, on one GPU
    python scripts/gpu_check.py --dry-run                   # the same parts at tiny sizes, on a CPU
    python scripts/gpu_check.py --parts graphs streams      # some of them

Each part is a process of its own, with a limit of time: one that fails, hangs or is killed is said so in the
report, and the others follow. The report is written anew after each part.
"""

import argparse
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
WHOLE = 24 * 60  # seconds for all parts


class Part(NamedTuple):
    """One of them: what it asks, at most how many seconds it takes, and its function or command."""

    about: str
    seconds: int
    function: str = ""
    command: tuple[str, ...] = ()
    small: tuple[str, ...] = ()  # the command of a dry run


_TESTS = ("-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "tests/unit/test_engines.py", "-k")
_BENCH = ("scripts/bench.py", "--json", "{out}", "--only")
PARTS = {
    "machine": Part("versions, and the machine's limits", 120, "runs:machine"),
    "graphs": Part("CUDA graphs against eager steps, bit by bit", 120, "engines:graphs"),
    "streams": Part("data on the GPU and on the CPU", 120, "streams:streams"),
    "tests": Part(
        "the tests of the engines, on the GPU", 300,
        command=(*_TESTS, "not fused and not (float32 and (sensing or diagonal))"),
        small=(*_TESTS, "computes_what and stacked and Nesterov"),
    ),
    "ensembles": Part("64 MLPs and 28 WRN-10-1, stacked and in turn", 300, "engines:ensembles"),
    "groups": Part("members in groups, as the memory allows", 120, "engines:groups"),
    "bf16": Part("bf16-mixed against float32", 120, "runs:mixed_precision"),
    "processes": Part("two workers on one GPU", 180, "runs:two_processes"),
    "bench": Part(
        "scripts/bench.py on the GPU", 360,
        command=(*_BENCH, "fit", "sensing", "wide", "small", "sensing-ensembles", "mlp", "--rounds", "2"),
        small=("scripts/bench.py", "--help"),
    ),
    "jax": Part(
        "the same works in JAX, where it is installed", 240,
        command=(*_BENCH, "jax", "--rounds", "1"), small=("scripts/bench.py", "--help"),
    ),
    "projection": Part("a step of F1b and of F6a, and the whole figures", 240, "engines:projection"),
}  # fmt: skip


class Outcome(NamedTuple):
    """How a part ended: ``pass``, ``FAIL``, ``TIME`` or ``left out``; what it printed."""

    state: str
    seconds: float
    text: str


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("gpu_report.md"), help="the report")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, with or without a GPU")
    parser.add_argument("--seconds", type=float, default=WHOLE, help="for all parts; later ones are left out")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # one of them, in this process
    given = parser.parse_args()
    if given.part:
        return _run_here(PARTS[given.part], given.dry_run)
    end, outcomes = time.monotonic() + given.seconds, {}
    for name in given.parts:
        left = end - time.monotonic()
        if left < 5:
            outcomes[name] = Outcome("left out", 0.0, "no time was left")
        else:
            print(f"{name}: {PARTS[name].about}", flush=True)
            outcomes[name] = _run(name, given.dry_run, min(left, PARTS[name].seconds), given.out)
            print(f"{name}: {outcomes[name].state} after {outcomes[name].seconds:.0f} s", flush=True)
        given.out.write_text(report(outcomes, given.dry_run), encoding="utf-8")
    print(f"wrote {given.out}")
    return 0 if all(outcome.state == "pass" for outcome in outcomes.values()) else 1


def _run_here(part: Part, small: bool) -> int:
    """A part that is a function, in this process."""
    from sgdlit.foundations.late_imports import load_late

    load_late()
    import torch

    from sgdlit.cli.fit import settle_process

    if not small and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is to be seen; --dry-run goes without one")
    settle_process()
    module, function = part.function.split(":")
    vars(importlib.import_module(f"gpu.{module}"))[function](small)
    return 0


def _run(name: str, small: bool, seconds: float, out: Path) -> Outcome:
    """A part in a process of its own."""
    part = PARTS[name]
    if part.function:
        command = ["scripts/gpu_check.py", "--part", name, *(["--dry-run"] if small else [])]
    else:
        json = str(out.resolve().with_suffix(f".{name}.json"))
        command = [word.format(out=json) for word in (part.small if small else part.command)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "scripts"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    if not small:
        environment["SGDLIT_TEST_DEVICE"] = "cuda"
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        text, _ = process.communicate(timeout=seconds)
        state = "FAIL" if process.returncode else "pass"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with what it started
        text, _ = process.communicate()
        state = "TIME"
    return Outcome(state, time.monotonic() - start, text)


def report(outcomes: dict[str, Outcome], small: bool) -> str:
    """The report: a table of the parts, and what each printed."""
    head = "# sgdlit on a GPU" + (" (dry run at tiny sizes)" if small else "")
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    lines = [head, "", f"`scripts/gpu_check.sh`, {when} UTC, revision {_revision()}", ""]
    lines += ["| part | what | state | s |", "|---|---|---|---|"]
    lines += [f"| {n} | {PARTS[n].about} | {o.state} | {o.seconds:.0f} |" for n, o in outcomes.items()]
    for name, outcome in outcomes.items():
        shown = outcome.text.strip().splitlines()[-80:]
        lines += ["", f"## {name}: {outcome.state}", "", "```", *shown, "```"]
    return "\n".join(lines) + "\n"


def _revision() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
