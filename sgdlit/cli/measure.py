"""``python -m sgdlit measure``: measures of a run, taken afterwards from what it has stored.

The run is built from its own config, with the callback ``Measures`` in the place of its callbacks, so that
what is wrong with a measure is found and said as ``fit`` does it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import yaml

from sgdlit.cli.parser import CommandParser
from sgdlit.foundations.console import say, warn
from sgdlit.foundations.errors import UserError, did_you_mean
from sgdlit.runs.reading import Run, load_run

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from sgdlit.training.afterwards import Afterwards

_CALLBACK = "sgdlit.training.measuring.Measures"
_LANDSCAPES = ("barrier", "plane")
_TOLD = 3  # numbers of a step whose measures have no headline


def main(arguments: Sequence[str]) -> int:
    """Take the measures, and write them into ``measures.csv`` of the run's folder.

    Raises:
        UserError: a mistake in the arguments, or a run that cannot be measured.
    """
    if arguments and arguments[0] in _LANDSCAPES:
        from sgdlit.cli.landscape import barrier, plane

        return (barrier if arguments[0] == "barrier" else plane)(arguments[1:])
    if arguments and not arguments[0].startswith("-") and (meant := did_you_mean(arguments[0], _LANDSCAPES)):
        raise UserError(f"{arguments[0]}: not understood{meant}")
    given = _parser().parse(arguments)
    from sgdlit.cli.fit import settle_process
    from sgdlit.training.afterwards import StoredSteps

    run = load_run(given.run)
    members = [run.checked_member(given.member)] if given.member is not None else list(range(run.count))
    stored = StoredSteps(run.folder)
    steps = stored.chosen(given.at)
    settle_process()
    afterwards = _build(given, run, stored, members)
    _leave_out_unavailable(afterwards, steps)
    if given.dry_run:
        _say_plan(afterwards, steps)
        return 0
    _take(afterwards, run, steps, given.mode)
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "measure",
        "Take measures of a run afterwards, from its snapshots and its last checkpoint; the numbers are "
        "those that the callback Measures would have logged at the same steps.",
        "%(prog)s --run DIR --measures NAMES [--at all|last|STEPS] [--examples N] [--member K] [--dry_run]\n"
        "       %(prog)s barrier --run DIR [--run DIR] ...    the loss on the way between two networks\n"
        "       %(prog)s plane --run DIR ...                  the loss on a plane of parameters",
    )
    parser.add_argument(
        "--run", type=str, required=True, metavar="DIR", help="folder of the run: logs/NAME/version_K"
    )
    parser.add_argument(
        "--measures",
        type=str,
        required=True,
        metavar="NAMES",
        help="names or presets with commas between them, or a list in YAML, with arguments: "
        "'[GradientNoise, {class_path: Trace, init_args: {probes: 3}}]'",
    )
    parser.add_argument(
        "--at", type=str, default="all", help="all stored steps, the last, or some: 0,100,1000"
    )
    parser.add_argument(
        "--examples",
        type=int | Literal["auto"] | None,
        default="auto",
        help="of the training set; auto: 500, or all of a smaller one; null: all of them",
    )
    parser.add_argument(
        "--mode", type=Literal["eval", "train"], default="eval", help="of the network, as of the callback"
    )
    parser.add_argument("--chunk_size", type=int, default=200, help="examples that are looked at together")
    parser.add_argument(
        "--member", type=int | None, default=None, metavar="K", help="of an ensemble; none for all of them"
    )
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="say what would be measured, and stop"
    )
    return parser


def chosen_measures(text: str) -> list[Any]:
    """What stands for measures in a config: from names and presets with commas between them, or from a list
    in YAML.

    Raises:
        UserError: it is neither.
    """
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"--measures: {text!r} is not valid YAML: {getattr(error, 'problem', None) or error}"
        ) from error
    if isinstance(read, str):
        read = [name.strip() for name in read.split(",") if name.strip()]
    listed = read if isinstance(read, list) else [read] if read else []
    if not listed:
        raise UserError("--measures: none; python -m sgdlit measures lists them")
    from sgdlit.measures.presets import measures_by_name

    return [measures_by_name([one])[0] if isinstance(one, str) else one for one in listed]


def _build(given: "Namespace", run: Run, stored: Any, members: list[int]) -> "Afterwards":
    """The run as its config describes it, in this process, with the measures in place of its callbacks."""
    from sgdlit.cli.built_again import built_again
    from sgdlit.training.afterwards import Afterwards
    from sgdlit.training.measuring import Measures

    init_args = {
        "measures": chosen_measures(given.measures),
        "examples": given.examples,
        "mode": given.mode,
        "chunk_size": given.chunk_size,
    }
    callback = {"class_path": _CALLBACK, "init_args": init_args}
    try:
        built = built_again(run, [callback])
    except UserError as error:
        raise UserError(_as_options(str(error))) from error
    (measures,) = (one for one in built.trainer.callbacks if isinstance(one, Measures))
    try:
        return Afterwards(stored, measures, built.model, built.datamodule, built.trainer, members)
    except UserError as error:
        raise UserError(_as_options(str(error))) from error


def _as_options(message: str) -> str:
    """A message about the callback, as one about the options of this command."""
    for key in ("trainer.callbacks.0.init_args.", "trainer.callbacks.0.", "trainer.callbacks.Measures.",
                "trainer.callbacks.", "Measures."):  # fmt: skip
        for name in ("measures", "examples", "mode", "chunk_size"):
            message = message.replace(f"{key}{name}", f"--{name}")
    return message


def _leave_out_unavailable(afterwards: "Afterwards", steps: list[int]) -> None:
    """Leave out what cannot be taken, and say why.

    Raises:
        UserError: nothing is left.
    """
    kept, after_start = [], [step for step in steps if step] or steps
    for measure in afterwards.measures.measures:
        reasons = [afterwards.unavailable(measure, step) for step in after_start]
        whys = [why for why in reasons if why is not None]
        name = type(measure).__name__
        if len(whys) < len(after_start):
            kept.append(measure)
            if whys:
                missed = f"{len(whys)} of {len(after_start)} steps after the start"
                warn(f"{name} has no value at {missed}: {whys[0]}")
        else:
            warn(f"{name} is not available afterwards: {whys[0]}")
    if not kept:
        raise UserError("--measures: none of them can be taken of this run afterwards")
    afterwards.measures.choice.measures = kept


def _say_plan(afterwards: "Afterwards", steps: list[int]) -> None:
    """What would be done, and its price in steps of the run."""
    members = f", {len(afterwards.members)} members each" if len(afterwards.members) > 1 else ""
    print(f"{len(steps)} steps: {', '.join(map(str, steps))}; {afterwards.examples} examples{members}")
    prices = afterwards.prices()
    for name, price in prices.items():
        print(f"  {name}: {_in_steps(price)} steps of the run each time")
    print(f"together as much as {_in_steps(len(steps) * sum(prices.values()))} steps of the run")


def _in_steps(price: float) -> str:
    return f"{price:.3g}" if price < 999.5 else f"{price:.0f}"


def _take(afterwards: "Afterwards", run: Run, steps: list[int], mode: str) -> None:
    """Take and write them, a step at a time, and show the chief ones."""
    from sgdlit.foundations.progress import Progress
    from sgdlit.runs.measures_file import MeasuresFile

    table = MeasuresFile(run.folder, {"examples": afterwards.examples, "mode": mode})
    for measure in afterwards.measures.measures:
        settings = {"examples": measure.examples, "mode": measure.mode}
        own = ", ".join(f"{name}: {value}" for name, value in settings.items() if value is not None)
        if own:
            warn(f"{type(measure).__name__} has {own} of its own, which are not those in the table's columns")
    names = [measure.headline for measure in afterwards.measures.measures if measure.headline]
    shown = []
    with Progress("steps measured", len(steps)) as progress:
        for i, (step, rows) in enumerate(afterwards.rows(steps)):
            table.write(step, {None if run.alone else k: row for k, row in rows.items()})
            progress.update(i + 1)
            shown += [_line(step, None if run.alone else k, row, names) for k, row in rows.items()]
    print("\n".join(shown))
    taken = "1 step" if len(steps) == 1 else f"{len(steps)} steps"
    say(f"{taken} measured on {afterwards.examples} examples; written to {table.path}")


def _line(step: int, member: int | None, row: dict[str, float], names: list[str]) -> str:
    """A step in words: the headlines of its measures, or, where none has one, the first few numbers."""
    whose = "" if member is None else f" member {member}"
    chief = [name for name in names if name in row]
    told = chief or list(row)[:_TOLD]
    found = [f"{name.partition('/')[2].replace('_', ' ')} {row[name]:.4g}" for name in told]
    more = "" if chief or len(row) <= _TOLD else f", and {len(row) - _TOLD} more in the table"
    return f"step {step}{whose}: {', '.join(found) or 'no number'}{more}"
