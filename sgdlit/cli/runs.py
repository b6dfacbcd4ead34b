"""``python -m sgdlit runs``: the runs that there are, compared, and removed. It imports no torch.

runs [DIR] [--name PART] [--state STATE]    list them, newest first
runs compare DIR DIR ...                    what differs in their configs, and in what they reached
runs remove DIR ... [--yes]                 delete them, after a question; never one that is being written
"""

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from sgdlit.cli.parser import CommandParser
from sgdlit.config.keys import flat_settings
from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.runs.folder import CONFIG, METRICS, STATUS, locked
from sgdlit.runs.reading import Run, load_run

_STATES = Literal["running", "finished", "stopped", "diverged", "failed"]
_ELSEWHERE = {"config", "ckpt_path", "logs", "closing"}  # where a run is and what it says, not what it is


def main(arguments: Sequence[str]) -> int:
    """Runs ``runs``, ``runs compare`` or ``runs remove``.

    Returns:
        The exit code, 0.

    Raises:
        UserError: a folder is not that of a run, or a run cannot be removed.
    """
    actions: dict[str, Callable[[Sequence[str]], None]] = {"compare": _compare, "remove": _remove}
    first, *rest = arguments or [""]
    if first in actions:
        actions[first](rest)
    else:
        _list(arguments)
    return 0


# The list


def _list(arguments: Sequence[str]) -> None:
    own = _list_parser().parse(arguments)
    found = [run for run in _runs_below(Path(own.folder)) if own.name in _name(run, own.folder)]
    rows = [(_age(run), _row(run, own.folder)) for run in found]
    rows = [(age, row) for age, row in rows if own.state in (None, row["state"])]
    if not rows:
        print(f"no runs in {own.folder}" + (" with these properties" if own.name or own.state else ""))
        return
    print("\n".join(_table([row for _, row in sorted(rows, key=lambda pair: pair[0])])))


def _list_parser() -> CommandParser:
    parser = CommandParser(
        "runs",
        "List the runs that there are, newest first.",
        "%(prog)s [DIR] [--name PART] [--state STATE]\n       %(prog)s compare DIR DIR ...\n"
        "       %(prog)s remove DIR ... [--yes]",
    )
    parser.add_argument("folder", nargs="?", type=str, default="logs", help="where runs are kept")
    parser.add_argument("--name", type=str, default="", help="only runs whose name has this in it")
    parser.add_argument("--state", type=_STATES | None, default=None, help="only runs that stand so")
    return parser


def _runs_below(folder: Path) -> list[Run]:
    if not folder.is_dir():
        raise UserError(f"runs: {str(folder)!r} is not a folder; allowed: the folder in which runs are kept")
    paths = {path.parent for name in (CONFIG, STATUS) for path in folder.rglob(f"version_*/{name}")}
    return [Run(path) for path in paths]


def _name(run: Run, folder: str) -> str:
    return run.folder.relative_to(folder).as_posix()


def _row(run: Run, folder: str) -> dict[str, str]:
    try:
        state, step, best = run.state, f"{run.status['step']:,}", _best(run)
    except UserError:
        state, step, best = "unreadable", "", ""
    size = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    return {
        "run": _name(run, folder),
        "state": state,
        "steps": step,
        "reached": best,
        "size": _bytes(size),
        "age": _duration(_age(run)),
    }


def _best(run: Run) -> str:
    """The first thing that a run reached; of an ensemble, its range over the members, once they ended."""
    if not run.alone and "members" not in run.status:
        return f"{run.count} members"
    reached = [member.reached for member in run.members] if not run.alone or run.members else []
    name = next((name for each in reached for name in each), None)
    values = [each[name] for each in reached if name in each]
    if name is None or not values:
        return "" if run.alone else f"{len(reached)} members"
    low, high = min(values), max(values)
    return f"{name} {low:.4g}" + ("" if run.alone else f" to {high:.4g}, {len(reached)} members")


def _age(run: Run) -> float:
    """Seconds since anything of the run was written."""
    written = [run.folder / name for name in (METRICS, STATUS, CONFIG)]
    return time.time() - max(path.stat().st_mtime for path in written if path.exists())


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit in ("B", "kB") else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("the loop ends with GB")


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _table(rows: Sequence[dict[str, str]]) -> list[str]:
    lines = [dict(zip(rows[0], rows[0], strict=True)), *rows]
    widths = {name: max(len(line[name]) for line in lines) for name in rows[0]}
    return ["  ".join(f"{line[name]:{widths[name]}}" for name in widths).rstrip() for line in lines]


# Comparison


def _compare(arguments: Sequence[str]) -> None:
    parser = CommandParser(
        "runs compare", "What differs between runs, in their configs and in their results."
    )
    parser.add_argument("folders", nargs="+", type=str, metavar="DIR", help="folders of runs")
    folders = parser.parse(arguments).folders
    if len(folders) < 2:
        raise UserError(f"runs compare: {folders[0]} alone; allowed: two runs or more")
    runs = [load_run(folder) for folder in folders]
    settings = [_settings(run) for run in runs]
    results = [{"state": run.state, "step": run.status["step"], **_reached(run)} for run in runs]
    rows = [_differing("", [{"": str(run.folder)} for run in runs], always=True)]
    rows += [_differing("set", settings), _differing("reached", results, always=True)]
    print("\n".join(_table([row for part in rows for row in part])))


def _settings(run: Run) -> dict[str, Any]:
    """What was set, each value once: a list that holds settings of its own stands in its parts."""
    flat = {k: v for k, v in flat_settings(run.config).items() if k not in _ELSEWHERE}
    return {k: v for k, v in flat.items() if not (isinstance(v, list) and v and f"{k}.0" in flat)}


def _reached(run: Run) -> dict[str, Any]:
    """What each member reached, under its number where there are several."""
    if run.alone:
        return run.members[0].reached
    return {f"{name}, member {k}": v for k, m in enumerate(run.members) for name, v in m.reached.items()}


def _differing(part: str, columns: Sequence[dict[str, Any]], always: bool = False) -> list[dict[str, str]]:
    """A row for each key whose values differ, or for every key."""
    rows = []
    for key in dict.fromkeys(key for column in columns for key in column):
        values = [column.get(key) for column in columns]
        if always or any(value != values[0] for value in values[1:]):
            row = {"": part, "key": key}
            rows.append(row | {str(k): _shown(value) for k, value in enumerate(values)})
    return rows


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


# Removal


def _remove(arguments: Sequence[str]) -> None:
    parser = CommandParser("runs remove", "Delete runs, after a question; never one that is being written.")
    parser.add_argument("folders", nargs="+", type=str, metavar="DIR", help="folders of runs")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    own = parser.parse(arguments)
    runs = [load_run(folder) for folder in own.folders]
    for run in runs:
        with locked(run.folder):  # refuses a run that another process writes
            pass
    if not own.yes and not _agreed(run.folder for run in runs):
        say("nothing was removed")
        return
    for run in runs:
        with locked(run.folder):
            shutil.rmtree(run.folder)
        say(f"removed {run.folder}")


def _agreed(folders: Iterable[Path]) -> bool:
    print("\n".join(str(folder) for folder in folders))
    try:
        return input("delete these runs, with everything in them? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
