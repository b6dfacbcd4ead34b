"""``python -m sgdlit sweep`` and ``figure``: many runs from one config, and the pictures of what came out.

    sweep --config FILE [--KEY VALUE ...]     run what is missing, in this process
    figure --config FILE                      draw from what is stored

Both read a sweep file: a ``fit`` config with a section ``sweep:``. Whatever ``fit`` takes on the command line
``sweep`` takes, and values of the section as ``--sweep.seeds 3``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sgdlit.config.axes import number
from sgdlit.foundations.console import clock_face, say, warn
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import write_table
from sgdlit.sweeps.layout import check_figures
from sgdlit.sweeps.options import SweepOptions, read_options
from sgdlit.sweeps.plan import Cell, Plan, groups, make_plan, read_plan, write_plan
from sgdlit.sweeps.series import Numbers, table
from sgdlit.sweeps.store import Store
from sgdlit.sweeps.sweep_file import SweepFile
from sgdlit.sweeps.table import in_words, rows_of

_SIGNALLED = 128  # exit codes above are those of a process that a signal stopped
_SHOWN = 12  # cells of a list that are named


def sweep(arguments: Sequence[str]) -> int:
    """Run what is missing of a sweep; 0 where nothing is left to run, 1 where runs failed.

    Raises:
        UserError: a mistake in the file or the command line.
    """
    own, rest = _sweep_parser().parse_known_args(list(arguments))
    if own.jobs is not None and own.jobs < 1:
        raise UserError(f"--jobs: {own.jobs} is not allowed; allowed: 1 or more")
    file = SweepFile(rest)
    config, options = file.read()
    plan = make_plan(config, options, file.inputs)
    check_figures(plan, options)
    again = _cells_with(own.rerun, plan) if own.rerun else []
    folder = Path(own.store or Path("sweeps") / config.name)
    if own.dry_run:
        _describe(plan, Store(folder) if (folder / "store.json").exists() else None, own.jobs or 1, options)
        return 0
    store = Store(folder, create=True)
    write_plan(plan, store)
    if again:
        _set_aside(again, store)
    if own.worker:
        return _work(plan, store)
    missing = _say_what_is_missing(plan, store)
    if own.launcher != "here" and missing:
        return _submit(own, rest, folder, missing, store)
    code = _run(own, rest, plan, store, missing) if missing else 0
    if code <= 1:
        _conclude(plan, store, options)
    return code


def _sweep_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sgdlit sweep",
        usage="%(prog)s --config FILE [--config FILE ...] [--KEY VALUE ...] [--sweep.KEY VALUE ...] [...]",
        description="Run every cell of a sweep that has no stored result. docs/sweeps.md explains the file.",
        allow_abbrev=False,
    )
    parser.add_argument("--store", metavar="DIR", help="folder of the sweep (default: sweeps/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run, and how long it takes")
    parser.add_argument(
        "--rerun", nargs="+", metavar="KEY=VALUE", help="run the cells with these values once more"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="workers: processes here, tasks of a job array")
    parser.add_argument(
        "--launcher",
        choices=("here", "slurm", "local"),
        default="here",
        help="slurm: submit a job array of workers; local: submitit's processes on this machine",
    )
    parser.add_argument(
        "--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="for submitit: slurm_partition=gpu ..."
    )
    parser.add_argument("--worker", action="store_true", help="only run cells, and make no table")
    parser.error = _refuse
    return parser


def _refuse(message: str) -> None:
    raise UserError(message.replace("argument ", "", 1))


# Running


def _run(own: argparse.Namespace, rest: list[str], plan: Plan, store: Store, missing: list[Cell]) -> int:
    jobs = min(own.jobs or 1, len(missing))
    if jobs == 1:
        return _work(plan, store)
    from sgdlit.sweeps.launch import run_processes

    keys = [cell.key for cell in missing]
    code = run_processes(_worker_arguments(rest, store.folder), jobs, store, keys)
    if code > _SIGNALLED:
        say("stopped; the runs in flight go on from their checkpoints when the command is given again")
    elif code > 0:
        say(f"a worker ended with exit code {code}; what they said is in {store.folder / 'work'}")
    return code


def _worker_arguments(rest: Sequence[str], folder: Path) -> list[str]:
    return ["sweep", *rest, "--store", str(folder), "--worker"]


def _work(plan: Plan, store: Store) -> int:
    from sgdlit.cli.fit import main as lightning
    from sgdlit.sweeps.worker import Stopped, work

    try:
        done = work(plan, store, lambda arguments: lightning("fit", arguments))
    except Stopped as stopped:
        say("stopped; the runs in flight go on from their checkpoints when the command is given again")
        return stopped.code
    if done.elsewhere:
        say(f"in flight elsewhere: {done.elsewhere}; give the command again when they are done")
    if done.failed:
        if not done.ran:
            say("the first run failed, so no other was tried")
        say(f"{len(done.failed)} of {len(plan.cells)} runs failed; the others are stored in {store.folder}")
        return 1
    return 0


def _submit(own: argparse.Namespace, rest: list[str], folder: Path, missing: list[Cell], store: Store) -> int:
    from sgdlit.sweeps.launch import submit

    worker = Worker(_worker_arguments(rest, folder.resolve()))
    what = submit(worker, own.launcher, own.jobs, len(missing), store, own.slurm)
    say(f"submitted {what}; logs in {folder / 'slurm'}; --dry-run says how far they are")
    return 0


class Worker:
    """What a task of a job array calls. The cluster's time limit requeues it: ``checkpoint`` says as what."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments

    def __call__(self) -> int:
        code = sweep(self.arguments[1:])
        if code > 1:
            raise RuntimeError(f"python -m sgdlit {' '.join(self.arguments)} ended with exit code {code}")
        return code

    def checkpoint(self) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(Worker(self.arguments))


# What there is, and what came out


def _say_what_is_missing(plan: Plan, store: Store) -> list[Cell]:
    results, damaged = store.read()
    for path in damaged:
        warn(f"{path}: not a result (cut off, or changed); the run is made once more")
        path.unlink(missing_ok=True)
    orphans = results.keys() - {cell.key for cell in plan.cells}
    if orphans:
        names = ", ".join(sorted(orphans)[:_SHOWN]) + (" ..." if len(orphans) > _SHOWN else "")
        say(f"{len(orphans)} stored runs belong to no cell of this sweep any more: {names}")
    missing = [cell for cell in plan.cells if cell.key not in results]
    stored = len(plan.cells) - len(missing)
    say(f"{len(plan.cells)} runs, {stored} stored, {len(missing)} to run; {store.folder}")
    return missing


def _describe(plan: Plan, store: Store | None, jobs: int, options: SweepOptions) -> None:
    """What would be run, on standard output."""
    from sgdlit.sweeps.worker import described

    results = store.read()[0] if store else {}
    for name, cells in plan.grids.items():
        print(f"grid {name}: {len(cells) // len(options.seeds)} points x {len(options.seeds)} seeds")
    missing = [cell for cell in plan.cells if cell.key not in results]
    calls = [[cell for cell in group if cell.key not in results] for group in groups(plan)]
    calls = [group for group in calls if group]
    for group in calls[:_SHOWN]:
        more = f" ... {len(group)} together" if len(group) > 1 else ""
        print(f"  {described(group[0])}{more}")
    if len(calls) > _SHOWN:
        print(f"  ... and {len(calls) - _SHOWN} more")
    orphans = len(results.keys() - {cell.key for cell in plan.cells})
    print(
        f"{len(plan.cells)} runs: {len(plan.cells) - len(missing)} stored, {len(missing)} to run in "
        f"{len(calls)} calls; {orphans} stored runs belong to no cell"
    )
    if results and missing:
        each = sum(result.seconds for result in results.values()) / len(results)
        print(
            f"about {clock_face(each * len(missing) / jobs)} at {each:.3g} s each, the mean of those stored"
        )
    elif missing:
        print("time: not known until a run is stored")


def _cells_with(given: Sequence[str], plan: Plan) -> list[Cell]:
    """The cells that have all of the values KEY=VALUE."""
    chosen = plan.cells
    for key, equals, value in (condition.partition("=") for condition in given):
        if not equals:
            raise UserError(f"--rerun: {key!r} is not allowed; allowed: KEY=VALUE")
        plan.check_key(key, "--rerun")
        there = sorted({str(plan.value(cell, key)) for cell in chosen})
        chosen = [c for c in chosen if str(plan.value(c, key)) in (value, str(number(value)))]
        if not chosen:
            raise UserError(f"--rerun: no run has {key}={value}; there are: {', '.join(there)}")
    return chosen


def _set_aside(cells: Sequence[Cell], store: Store) -> None:
    again = [cell.key for cell in cells if store.has(cell.key)]
    store.set_aside(again)
    say(f"{len(again)} stored runs are made once more; the old ones are in {store.folder / 'replaced'}")


def _conclude(plan: Plan, store: Store, options: SweepOptions) -> None:
    """Table, CSV and TensorBoard of what is stored."""
    from sgdlit.sweeps.hparams import write_hparams

    numbers = Numbers(plan, store)
    if not numbers.results:
        return
    points = table(numbers, options.metric, options.statistic)
    print(in_words(points, options.metric, options.statistic))
    written = write_table(store.folder / "table.csv", rows_of(points))
    keys = {cell.key for cell in plan.cells}
    write_hparams(store.folder / "tensorboard", (r for k, r in numbers.results.items() if k in keys))
    drawn = "; draw it with: python -m sgdlit figure" if options.figures else ""
    say(f"wrote {written} and {store.folder / 'tensorboard'}{drawn}")


# Drawing


def figure(arguments: Sequence[str]) -> int:
    """Draw the figures of a sweep file from what is stored.

    Raises:
        UserError: a mistake in the file, or nothing is stored.
    """
    parser = argparse.ArgumentParser(
        prog="python -m sgdlit figure",
        usage="%(prog)s --config FILE [--KEY VALUE ...] [--store DIR] [--out DIR] [--svg]",
        description="Draw the figures of a sweep file from what is stored; nothing is run.",
        allow_abbrev=False,
    )
    parser.add_argument("--store", metavar="DIR", help="folder of the sweep (default: sweeps/NAME)")
    parser.add_argument("--out", metavar="DIR", help="folder for the pictures (default: STORE/figures)")
    parser.add_argument("--svg", action="store_true", help="also as SVG")
    parser.error = _refuse
    own, rest = parser.parse_known_args(list(arguments))
    plan, store, options = _stored(SweepFile(rest), own.store)
    if not options.figures:
        raise UserError("sweep.figures: none to draw; docs/sweeps.md shows how to describe one")
    from sgdlit.figures.sweep import draw

    numbers = Numbers(plan, store)
    for path in numbers.damaged:
        warn(f"{path}: not a result (cut off, or changed); left out")
    if not numbers.stored:
        raise UserError(f"{store.folder} has no result of this file yet; python -m sgdlit sweep makes them")
    out = Path(own.out or store.folder / "figures")
    written = [path for name in options.figures for path in draw(name, options, numbers, out, own.svg)]
    say(f"wrote {', '.join(path.name for path in written)} into {out}")
    return 0


def _stored(file: SweepFile, given: str | None) -> tuple[Plan, Store, SweepOptions]:
    """Plan, store and options. As long as the file asks for the same runs as the last sweep did, the plan is
    that of the store, and Lightning is not imported, which takes seconds."""
    folder = Path(given or Path("sweeps") / file.name)
    if (folder / "store.json").exists():
        store = Store(folder)
        plan = read_plan(store, file.inputs)
        if plan is not None:
            return plan, store, read_options(file.section, plan.settings["seed_everything"])
    config, options = file.read()
    store = Store(Path(given or Path("sweeps") / config.name))
    return make_plan(config, options, file.inputs), store, options
