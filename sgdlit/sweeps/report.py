"""What a sweep says: what it would run, what is missing, how a worker ended, and the table at the end."""

from collections.abc import Sequence
from pathlib import Path

from sgdlit.config.axes import number
from sgdlit.foundations.console import clock_face, say, warn
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import write_table
from sgdlit.sweeps.options import SweepOptions
from sgdlit.sweeps.plan import Cell, Plan, groups
from sgdlit.sweeps.series import SweepResults, table
from sgdlit.sweeps.store import Store
from sgdlit.sweeps.table import in_words, rows_of
from sgdlit.sweeps.worker import Done, described

STOPPED = "stopped; the runs in flight go on from their checkpoints when the command is given again"
_SHOWN = 12  # cells of a list that are named


def describe(plan: Plan, store: Store | None, jobs: int, options: SweepOptions) -> None:
    """Print what would be run, and how long it takes.

    Args:
        plan: of the sweep.
        store: what is there already; None where nothing is.
        jobs: how many workers there would be.
        options: the section ``sweep:``.
    """
    stored = store.read()[0] if store else {}
    for name, cells in plan.grids.items():
        print(f"grid {name}: {len(cells) // len(options.seeds)} points x {len(options.seeds)} seeds")
    calls = [[cell for cell in group if cell.key not in stored] for group in groups(plan)]
    calls = [group for group in calls if group]
    for group in calls[:_SHOWN]:
        more = f" ... {len(group)} together" if len(group) > 1 else ""
        print(f"  {described(group[0])}{more}")
    if len(calls) > _SHOWN:
        print(f"  ... and {len(calls) - _SHOWN} more")
    missing = sum(map(len, calls))
    orphans = len(stored.keys() - {cell.key for cell in plan.cells})
    print(
        f"{len(plan.cells)} runs: {len(plan.cells) - missing} stored, {missing} to run in "
        f"{len(calls)} calls; {orphans} stored runs belong to no cell"
    )
    if stored and missing:
        each = sum(result.seconds for result in stored.values()) / len(stored)
        print(f"about {clock_face(each * missing / jobs)} at {each:.3g} s each, the mean of those stored")
    elif missing:
        print("time: not known until a run is stored")


def cells_with(conditions: Sequence[str], plan: Plan) -> list[Cell]:
    """The cells that have all of the values KEY=VALUE.

    Raises:
        UserError: a key that no config has, or a value that no cell has.
    """
    chosen = plan.cells
    for key, equals, value in (condition.partition("=") for condition in conditions):
        if not equals:
            raise UserError(f"--rerun: {key!r} is not allowed; allowed: KEY=VALUE")
        plan.check_key(key, "--rerun")
        there = sorted({str(plan.value(cell, key)) for cell in chosen})
        chosen = [c for c in chosen if str(plan.value(c, key)) in (value, str(number(value)))]
        if not chosen:
            raise UserError(f"--rerun: no run has {key}={value}; there are: {', '.join(there)}")
    return chosen


def set_aside(cells: Sequence[Cell], store: Store) -> None:
    """Take the results of some cells out of the store, so that they are run once more."""
    again = [cell.key for cell in cells if store.has(cell.key)]
    store.set_aside(again)
    say(f"{len(again)} stored runs are made once more; the old ones are in {store.folder / 'replaced'}")


def missing_cells(plan: Plan, store: Store) -> list[Cell]:
    """The cells without a result; files that hold none are removed, and everything is said."""
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


def left_elsewhere(count: int) -> None:
    """Say how many cells other processes have in flight, where the command comes to its end without them."""
    if count:
        say(f"in flight elsewhere: {count}; give the command again when they are done")


def worker_ended(done: Done, plan: Plan, store: Store, one_of_several: bool) -> int:
    """Say how a worker ended; the exit code.

    Args:
        done: what it did.
        plan: the sweep.
        store: where the results are.
        one_of_several: whether it is one of those that a command has begun, which looks after what is left.
    """
    if done.seconds:
        beside = clock_face(done.seconds), 1 - done.training / done.seconds
        say("{} in calls of fit, of which {:.0%} to begin and to end them".format(*beside))
    if not one_of_several:
        left_elsewhere(done.elsewhere)
    elif done.elsewhere:
        say(f"in flight in other workers: {done.elsewhere}")
    if not done.failed:
        return 0
    if not done.ran:
        say("the first run failed, so no other was tried")
    stored = sum(store.has(cell.key) for cell in plan.cells)
    kept = f"{stored} are stored in {store.folder}" if stored else "none is stored"
    say(f"{len(done.failed)} of {len(plan.cells)} runs failed; {kept}")
    return 1


def conclude(plan: Plan, store: Store, options: SweepOptions) -> list[Path]:
    """Print the table of what is stored, and write it as CSV and for TensorBoard; what was written."""
    from sgdlit.sweeps.hparams import write_hparams

    results = SweepResults(plan, store)
    if not results.by_key:
        return []
    points = table(results, options.metric, options.statistic)
    print(in_words(points, options.metric, options.statistic))
    keys = {cell.key for cell in plan.cells}
    tensorboard = store.folder / "tensorboard"
    write_hparams(tensorboard, (result for key, result in results.by_key.items() if key in keys))
    return [write_table(store.folder / "table.csv", rows_of(points)), tensorboard]
