"""``python -m sgdlit figure``: pictures of what is stored; nothing is run.

figure --config FILE              the figures of a sweep file
figure --run DIR                  the page of a run's measures, and the picture that its config names
figure --run DIR --name NAME      another picture of a run
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sgdlit.cli.parser import CommandParser
from sgdlit.foundations.console import say, warn
from sgdlit.foundations.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from sgdlit.sweeps.options import SweepOptions
    from sgdlit.sweeps.plan import Plan
    from sgdlit.sweeps.store import Store
    from sgdlit.sweeps.sweep_file import SweepFile


def main(arguments: Sequence[str]) -> int:
    """Draw the figures of a sweep file, or the picture of a run.

    Raises:
        UserError: a mistake in the arguments or the file, or nothing is stored.
    """
    own, rest = _parser().parse_own(arguments)
    if own.run is None and own.name is None:
        if not rest:
            raise UserError(
                "--config: missing; give a sweep file (--config FILE), or the folder of a run (--run DIR)"
            )
        return _draw_sweep(own, rest)
    if own.run is None:
        raise UserError("--run: missing; --name is the name of a picture of one run, --run DIR")
    if rest:
        raise UserError(f"{rest[0]}: not together with --run; allowed: --name, --out, --svg")
    return _draw_run(own)


def _parser() -> CommandParser:
    parser = CommandParser(
        "figure",
        "Draw the figures of a sweep file, or the picture of a run, from what is stored; nothing is run.",
        "%(prog)s --config FILE [--KEY VALUE ...] [--store DIR] [--out DIR] [--svg]\n"
        "       %(prog)s --run DIR [--name NAME] [--out DIR] [--svg]",
    )
    parser.add_argument("--run", metavar="DIR", help="folder of the run: logs/NAME/version_K")
    parser.add_argument(
        "--name",
        help="which picture of the run (default: measures, and that of the key figure of its config)",
    )
    parser.add_argument("--store", metavar="DIR", help="folder of the sweep (default: sweeps/NAME)")
    parser.add_argument(
        "--out", metavar="DIR", help="folder for the pictures (default: STORE/figures, or DIR)"
    )
    parser.add_argument("--svg", action="store_true", help="also as SVG")
    return parser


def _draw_run(own: "Namespace") -> int:
    from sgdlit.figures.of_a_run import draw_run
    from sgdlit.runs.reading import load_run

    run = load_run(own.run)
    names = [own.name] if own.name else list(dict.fromkeys(["measures", run.value("figure") or "measures"]))
    out = Path(own.out or run.folder)
    written = [path for name in names for path in draw_run(run, name, out, own.svg)]
    say(f"wrote {', '.join(path.name for path in written)} into {out}" if written else "nothing to draw yet")
    return 0


def _draw_sweep(own: "Namespace", rest: list[str]) -> int:
    from sgdlit.sweeps.sweep_file import SweepFile

    plan, store, options = _stored(SweepFile(rest, _parse_fit), own.store)
    if not options.figures:
        raise UserError("sweep.figures: none to draw; docs/sweeps.md shows how to describe one")
    from sgdlit.figures.sweep import draw
    from sgdlit.sweeps.series import SweepResults

    results = SweepResults(plan, store)
    for path in results.damaged:
        warn(f"{path}: not a result (cut off, or changed); left out")
    if not results.count:
        raise UserError(f"{store.folder} has no result of this file yet; python -m sgdlit sweep makes them")
    out = Path(own.out or store.folder / "figures")
    written = [path for name in options.figures for path in draw(name, options, results, out, own.svg)]
    say(f"wrote {', '.join(path.name for path in written)} into {out}")
    return 0


def _stored(file: "SweepFile", given: str | None) -> "tuple[Plan, Store, SweepOptions]":
    """Plan, store and options. As long as the file asks for the same runs as the last sweep did, the plan is
    that of the store, and Lightning is not imported, which takes seconds."""
    from sgdlit.sweeps.options import read_options
    from sgdlit.sweeps.plan import make_plan, read_plan
    from sgdlit.sweeps.store import Store

    folder = Path(given or Path("sweeps") / file.name)
    if (folder / "store.json").exists():
        store = Store(folder)
        plan = read_plan(store, file.inputs)
        if plan is not None:
            return plan, store, read_options(file.section, plan.settings["seed_everything"])
    config, options = file.read()
    store = Store(Path(given or Path("sweeps") / config.name))
    return make_plan(config, options, file.inputs), store, options


def _parse_fit(arguments: list[str]) -> "Namespace":
    from sgdlit.cli.without_running import parse_fit

    return parse_fit(arguments)
