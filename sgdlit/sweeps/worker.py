"""A worker takes cells that nobody has run yet, runs them, and stores what came out, until none is left.

Any number of workers may share a store. A cell is run by ``fit``, in this process, in a folder below
``work/``; a run that was stopped or killed there goes on from its last checkpoint.
"""

import hashlib
import json
import platform
import shutil
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sgdlit import __version__
from sgdlit.foundations import console
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.locks import Locks
from sgdlit.foundations.progress import Progress
from sgdlit.runs.folder import CONFIG, ENDED, STATUS, BeingWritten, checkpoint_path
from sgdlit.runs.outcomes import Outcome
from sgdlit.runs.reading import Run
from sgdlit.sweeps import plan as plans
from sgdlit.sweeps.first_look import Wanted, check_logged
from sgdlit.sweeps.in_flight import InFlight, forget_all
from sgdlit.sweeps.plan import Cell, Plan
from sgdlit.sweeps.store import Result, Store, summary_of

Fit = Callable[[list[str]], int]
_SIGNALLED = 128  # exit codes above are those of a run that a signal stopped
_CELLS = "cells.json"  # in a folder of work/: the keys of what is run there
_NOT_OF_A_RUN = ("config", "ckpt_path", "weights_only", "ensemble", "ensemble_curves", "mixing")


class Stopped(Exception):
    """A signal stopped the run in flight, which has a checkpoint to go on from.

    Args:
        code: 128 + the signal.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Done:
    """What a worker did.

    Args:
        wanted: metrics that the next run that is stored is asked for.
        ran: how many cells it ran and stored.
        seconds: that its calls of ``fit`` took.
        training: of these, from the folder of a run to its end.
        failed: what went wrong, by the key of the cell.
        elsewhere: cells that other processes have in flight.
    """

    wanted: Wanted = ()
    ran: int = 0
    seconds: float = 0.0
    training: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)
    elsewhere: int = 0


def work(plan: Plan, store: Store, fit: Fit, wanted: Wanted = ()) -> Done:
    """Run every cell of the plan that is not in the store and that no other process runs.

    A cell that fails is named and left out. Where the very first one fails no other is tried, since all are
    likely to fail alike.

    Args:
        plan: the cells, with their configs.
        store: where results are kept.
        fit: the command ``fit``: arguments to exit code.
        wanted: metrics that every run is to log, which the first one that is stored shows.

    Raises:
        Stopped: a signal came.
        UserError: the first run that is stored has not logged a metric that is wanted.
    """
    done = Done(wanted=wanted)
    locks = Locks(store.folder / "cells.lock")
    try:
        with Progress("runs", len(_missing(plan, store, done))) as progress:
            found = True
            while found:  # once more, for what others have left meanwhile
                found = False
                _store_what_has_ended(plan, store, locks, done)
                for group in plans.groups(plan):
                    mine = [cell for cell in group if _taken(cell, store, locks, done)]
                    if mine:
                        found = True
                        _run_and_store(mine, store, fit, progress, done)
                        for cell in mine:
                            locks.drop(cell.key)
                    if done.failed and not done.ran:
                        return done
        done.elsewhere = len(_missing(plan, store, done))
        if not done.elsewhere:
            forget_all(store)
        return done
    finally:
        locks.close()


def _store_what_has_ended(plan: Plan, store: Store, locks: Locks, done: Done) -> None:
    """Store runs that came to their end in a process that was killed before it had stored them all.

    And clear what nobody needs any more. Only a folder all of whose cells can be locked is nobody else's.
    """
    cells = {cell.key: cell for cell in plan.cells}
    for note in (store.folder / "work").glob(f"*/{_CELLS}"):
        keys = _noted(note)
        if not keys or not cells.keys() >= set(keys):
            continue
        locked = [key for key in keys if locks.take(key)]
        run = _latest_run(note.parent) if locked == keys else None
        if run is not None and _ended(run):
            seconds = (run / STATUS).stat().st_mtime - note.stat().st_mtime
            _store(_results([cells[key] for key in keys], run, seconds), store, note.parent, done)
        elif locked == keys and all(map(store.has, keys)):  # they have been run in other company
            shutil.rmtree(note.parent)
        for key in locked:
            locks.drop(key)


def _noted(note: Path) -> list[str] | None:
    """The keys of a folder's cells; None where they are not written yet, or the folder is gone."""
    try:
        return json.loads(note.read_text())
    except (OSError, ValueError):
        return None


def _store(results: Sequence[tuple[Result, Outcome]], store: Store, folder: Path, done: Done) -> None:
    """Keep those results that are not there, and clear the folder of their run."""
    for result, outcome in results:
        if not store.has(result.key):
            store.write(result, outcome.columns)
            done.ran += 1
    shutil.rmtree(folder)
    wanted, done.wanted = done.wanted, ()
    for result, _ in results:
        check_logged(result, wanted)


def _missing(plan: Plan, store: Store, done: Done) -> list[Cell]:
    return [cell for cell in plan.cells if cell.key not in done.failed and not store.has(cell.key)]


def _taken(cell: Cell, store: Store, locks: Locks, done: Done) -> bool:
    """Whether the cell is missing, and now this worker's to run: another may have stored it meanwhile."""
    if cell.key in done.failed or store.has(cell.key) or not locks.take(cell.key):
        return False
    if store.has(cell.key):
        locks.drop(cell.key)
        return False
    return True


def _run_and_store(cells: Sequence[Cell], store: Store, fit: Fit, progress: Progress, done: Done) -> None:
    folder, before = work_folder(store, cells), progress.done
    try:
        with InFlight(store, len(cells)) as here:

            def tell(part: float, text: str) -> None:
                here.tell(part)
                progress.update(before + part * len(cells), text)

            with console.lent_to(tell):
                results = run_group(cells, store, fit, folder)
    except Stopped:
        raise
    except BeingWritten as error:  # by a fit --resume of somebody's own
        _remember(cells, str(error), done)
    except UserError as error:
        if len(cells) > 1:
            console.warn(f"{len(cells)} runs cannot be trained together, so each is by itself: {error}")
            shutil.rmtree(folder, ignore_errors=True)
            progress.update(before)
            for cell in cells:
                if done.ran or not done.failed:
                    _run_and_store([cell], store, fit, progress, done)
            return
        _remember(cells, str(error), done)
    except Exception as error:  # one that runs out of memory, say: the others may not
        _remember(cells, f"{type(error).__name__}: {error}{_keep_traceback(folder)}", done)
    else:
        done.seconds += sum(result.seconds for result, _ in results)
        done.training += sum(result.seconds * result.made_by["training"] for result, _ in results)
        _store(results, store, folder, done)
    progress.update(before + len(cells))


def _remember(cells: Sequence[Cell], why: str, done: Done) -> None:
    for cell in cells:
        done.failed[cell.key] = why
        console.warn(f"failed: {described(cell)}: {why}")


def _keep_traceback(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text(traceback.format_exc())
    return f" (traceback in {folder / 'error.txt'})"


def described(cell: Cell) -> str:
    """A cell in words: its values and seed."""
    return ", ".join([*(f"{key} {value}" for key, value in cell.point.items()), f"seed {cell.seed}"])


def work_folder(store: Store, cells: Sequence[Cell]) -> Path:
    """Where these cells are run: the same folder whenever the same cells are run together."""
    if len(cells) == 1:
        return store.folder / "work" / cells[0].key
    together = hashlib.sha256(" ".join(sorted(cell.key for cell in cells)).encode()).hexdigest()[:16]
    return store.folder / "work" / f"group-{together}"


# One call of fit


def run_group(cells: Sequence[Cell], store: Store, fit: Fit, folder: Path) -> list[tuple[Result, Outcome]]:
    """Run cells in one call of ``fit``, or go on with it; one result per cell, in their order.

    Raises:
        Stopped: a signal came.
        UserError: the config cannot be run.
    """
    configs = [store.write_config(cell.key, config_text(cell)) for cell in cells]
    start = time.monotonic()
    run = _fit(cells, configs[0], fit, folder)
    return _results(cells, run, time.monotonic() - start)


def _results(cells: Sequence[Cell], run: Path, seconds: float) -> list[tuple[Result, Outcome]]:
    """What came out of the run of some cells, in their order."""
    training = (run / STATUS).stat().st_mtime - (run / CONFIG).stat().st_mtime  # of its last call
    facts = made_by(cells[0].config.trainer.accelerator) | {"together": len(cells)}
    facts["training"] = round(min(1.0, max(0.0, training / max(seconds, 1e-9))), 3)
    outcomes = zip(cells, Run(run).members, strict=True)
    return [(_result(cell, outcome, seconds / len(cells), facts), outcome) for cell, outcome in outcomes]


def _fit(cells: Sequence[Cell], config: Path, fit: Fit, folder: Path) -> Path:
    """Start a run, or go on with one that has a checkpoint; the folder that it ended in."""
    code, run = None, _latest_run(folder)
    if run is not None and checkpoint_path(run, "resume").exists():
        try:
            code = fit(["--resume", str(run)])
        except BeingWritten:
            raise
        except UserError as error:  # a checkpoint of another version, or damaged
            console.warn(f"{run}: cannot go on ({error}); run from its beginning")
    if code is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / _CELLS).write_text(json.dumps([cell.key for cell in cells]))
        code = fit(_arguments(cells, config, folder))
    if code > _SIGNALLED:
        raise Stopped(code)
    run = _latest_run(folder)
    if run is None or not _ended(run):
        raise UserError(f"fit ended with exit code {code} and no result")
    return run


def _arguments(cells: Sequence[Cell], config: Path, folder: Path) -> list[str]:
    """The command line of ``fit``: the config of the first cell, and where there are more an ensemble."""
    arguments = ["--config", str(config), "--logs", str(folder), "--name", "run", "--trainer.logger", "false"]
    if cells[0].config.trainer.devices in ("auto", -1, "-1"):
        arguments += ["--trainer.devices", "1"]
    if len(cells) > 1:
        axes = yaml.safe_dump([_axis(cells)], sort_keys=False, default_flow_style=True, width=float("inf"))
        arguments += ["--ensemble", axes.strip()]
    return arguments


def _axis(cells: Sequence[Cell]) -> dict[str, list[Any]]:
    """What distinguishes the cells of a group, as the axis of an ensemble."""
    axis: dict[str, list[Any]] = {"seed_everything": [cell.seed for cell in cells]}
    for key in cells[0].point:
        values = [_plain(cell.point[key]) for cell in cells]
        if any(value != values[0] for value in values):
            axis[key] = values
    return axis


def _latest_run(folder: Path) -> Path | None:
    runs = sorted(folder.glob("run/version_*"), key=lambda path: path.stat().st_mtime)
    return runs[-1] if runs else None


def _ended(run: Path) -> bool:
    """Whether the run in this folder is over; what cannot be read is not."""
    try:
        return Run(run).state in ENDED
    except UserError:
        return False


def config_text(cell: Cell) -> str:
    """The ``fit`` config of a cell as YAML."""
    plain = {k: v for k, v in cell.config.as_dict().items() if k not in _NOT_OF_A_RUN}
    plain["name"] = f"{plain['name']}_{cell.key}"
    head = f"# {described(cell)}\n# python -m sgdlit fit --config {cell.key}.yaml\n"
    return head + yaml.safe_dump(_plain(plain), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _result(cell: Cell, outcome: Outcome, seconds: float, facts: dict[str, Any]) -> Result:
    return Result(
        key=cell.key,
        point=_plain(cell.point),
        seed=cell.seed,
        state=outcome.state,
        step=outcome.step,
        reached=outcome.reached,
        metrics=summary_of(outcome.columns),
        seconds=round(seconds, 3),
        made_by=facts,
    )


def made_by(accelerator: Any) -> dict[str, Any]:
    """Versions, device and revision that a result comes from, and the time."""
    return {**_program(), "device": _device(accelerator), "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


@cache
def _program() -> dict[str, Any]:
    import lightning
    import torch

    versions = {"sgdlit": __version__, "torch": torch.__version__, "lightning": lightning.__version__}
    return {**versions, "python": platform.python_version(), "revision": _revision()}


def _device(accelerator: Any) -> str:
    import torch

    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.cuda.get_device_name() if on_gpu else "cpu"


def _revision() -> str | None:
    """Of the program, where it runs from a git checkout; ``-dirty`` with changes."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
