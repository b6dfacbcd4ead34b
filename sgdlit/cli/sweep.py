"""``python -m sgdlit sweep``: many runs from one config.

    sweep --config FILE [--KEY VALUE ...]     run what is missing, in this process

It reads a sweep file: a ``fit`` config with a section ``sweep:``. Whatever ``fit`` takes on the command line
``sweep`` takes, and values of the section as ``--sweep.seeds 3``.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sgdlit.cli.parser import CommandParser, check_jobs
from sgdlit.foundations.console import say
from sgdlit.foundations.late_imports import load_late
from sgdlit.foundations.threads import sleep_while_waiting

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from sgdlit.sweeps.first_look import Wanted
    from sgdlit.sweeps.plan import Cell, Plan
    from sgdlit.sweeps.store import Store

_SIGNALLED = 128  # exit codes above are those of a process that a signal stopped


def main(arguments: Sequence[str]) -> int:
    """Run what is missing of a sweep; 0 where nothing is left to run, 1 where runs failed.

    Raises:
        UserError: a mistake in the file or the command line.
    """
    own, rest = _parser().parse_own(arguments)
    check_jobs(own.jobs)
    from sgdlit.cli.without_running import parse_fit
    from sgdlit.sweeps import first_look, report
    from sgdlit.sweeps.layout import check_figures
    from sgdlit.sweeps.plan import make_plan, write_plan
    from sgdlit.sweeps.store import Store
    from sgdlit.sweeps.sweep_file import SweepFile

    file = SweepFile(rest, parse_fit)
    config, options = file.read()
    plan = make_plan(config, options, file.inputs)
    check_figures(plan, options)
    if not own.worker:
        first_look.look(plan, options)
    again = report.cells_with(own.rerun, plan) if own.rerun else []
    folder = Path(own.store or Path("sweeps") / config.name)
    if own.dry_run:
        from sgdlit.cli.sweep_checks import check_cells

        check_cells(plan)
        there = Store(folder) if (folder / "store.json").exists() else None
        report.describe(plan, there, own.jobs or 1, options)
        return 0
    store = Store(folder, create=True)
    write_plan(plan, store)
    if again:
        report.set_aside(again, store)
    if own.worker:
        return _work(plan, store, first_look.wanted_metrics(options), one_of_several=True)
    missing = report.missing_cells(plan, store)
    if own.launcher != "here" and missing:
        return _submit(own, rest, missing, store)
    wanted = first_look.wanted_metrics(options)
    code = _run(own, rest, plan, store, missing, wanted) if missing else 0
    written = report.conclude(plan, store, options) if code <= 1 else []
    if written:
        drawn = f"; draw it with: {_figure_command(own, rest)}" if options.figures else ""
        say(f"wrote {' and '.join(map(str, written))}{drawn}")
    return code


def _parser() -> CommandParser:
    parser = CommandParser(
        "sweep",
        "Run every cell of a sweep that has no stored result. docs/sweeps.md explains the file.",
        "%(prog)s --config FILE [--config FILE ...] [--KEY VALUE ...] [--sweep.KEY VALUE ...] [...]",
    )
    parser.add_argument("--store", metavar="DIR", help="folder of the sweep (default: sweeps/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run, and how long it takes")
    parser.add_argument(
        "--rerun", nargs="+", metavar="KEY=VALUE", help="run the cells with these values once more"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="workers: processes here, tasks of a job array")
    parser.add_argument(
        "--launcher",
        type=Literal["here", "slurm", "local"],
        default="here",
        help="slurm: submit a job array of workers; local: submitit's processes on this machine",
    )
    parser.add_argument(
        "--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="for submitit: slurm_partition=gpu ..."
    )
    parser.add_argument("--worker", action="store_true", help="only run cells, and make no table")
    return parser


def _figure_command(own: "Namespace", rest: list[str]) -> str:
    """What draws the sweep that was run."""
    where = ["--store", own.store] if own.store else []
    return shlex.join(["python", "-m", "sgdlit", "figure", *where, *rest])


def _run(
    own: "Namespace", rest: list[str], plan: "Plan", store: "Store", missing: "list[Cell]", wanted: "Wanted"
) -> int:
    """Run what is missing in this process, or in several; the exit code."""
    jobs = min(own.jobs or 1, len(missing))
    if jobs == 1:
        return _work(plan, store, wanted)
    from sgdlit.sweeps.launch import run_processes
    from sgdlit.sweeps.report import STOPPED, left_elsewhere

    command = ["sweep", *_worker_arguments(rest, store.folder)]
    code = run_processes(command, jobs, store, [cell.key for cell in missing])
    if code > _SIGNALLED:
        say(STOPPED)
    elif code > 0:
        say(f"a worker ended with exit code {code}; what they said is in {store.folder / 'work'}")
    else:
        left_elsewhere(sum(not store.has(cell.key) for cell in missing))
    return code


def _work(plan: "Plan", store: "Store", wanted: "Wanted", one_of_several: bool = False) -> int:
    """Be a worker; the exit code."""
    from sgdlit.cli.fit import main as fit
    from sgdlit.sweeps.report import STOPPED, worker_ended
    from sgdlit.sweeps.worker import Stopped, work

    try:
        done = work(plan, store, lambda arguments: fit("fit", arguments), wanted)
    except Stopped as stopped:
        say(STOPPED)
        return stopped.code
    return worker_ended(done, plan, store, one_of_several)


def _submit(own: "Namespace", rest: list[str], missing: "list[Cell]", store: "Store") -> int:
    """Submit a job array of workers, and do not wait for it; the exit code."""
    from sgdlit.sweeps.launch import submit

    worker = Worker(_worker_arguments(rest, store.folder.resolve()))
    what = submit(worker, own.launcher, own.jobs, len(missing), store, own.slurm)
    say(f"submitted {what}; logs in {store.folder / 'slurm'}; --dry-run says how far they are")
    return 0


def _worker_arguments(rest: Sequence[str], folder: Path) -> list[str]:
    return [*rest, "--store", str(folder), "--worker"]


class Worker:
    """What a task of a job array calls. The cluster's time limit requeues it: ``checkpoint`` says as what.

    Args:
        arguments: of the command ``sweep``.
    """

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments

    def __call__(self) -> int:
        load_late()
        sleep_while_waiting()
        code = main(self.arguments)
        if code > 1:
            raise RuntimeError(
                f"python -m sgdlit sweep {' '.join(self.arguments)} ended with exit code {code}"
            )
        return code

    def checkpoint(self) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(Worker(self.arguments))
