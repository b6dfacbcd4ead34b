"""``python -m sgdlit export``: one member of an ensemble as the folder of an ordinary run."""

from collections.abc import Sequence
from pathlib import Path

from sgdlit.cli.parser import CommandParser
from sgdlit.foundations.console import say
from sgdlit.runs.reading import Run


def main(arguments: Sequence[str]) -> int:
    """Write the folder and say where it is.

    Raises:
        UserError: a mistake in the arguments, the folder is no ensemble's, or the member does not exist or
            has diverged.
    """
    given = _parser().parse(arguments)
    from sgdlit.runs.export import export_member
    from sgdlit.training.joining import member_config

    run = Run(Path(given.run))
    target = export_member(run, given.member, Path(given.logs), member_config)
    say(
        f"member {given.member} of {run.folder} at step {run.members[given.member].step}: written to {target}"
    )
    return 0


def _parser() -> CommandParser:
    parser = CommandParser("export", "Write one member of an ensemble as the folder of an ordinary run.")
    parser.add_argument(
        "--run", type=str, required=True, metavar="DIR", help="folder of the ensemble: logs/NAME/version_K"
    )
    parser.add_argument("--member", type=int, required=True, metavar="K", help="number of the member, from 0")
    parser.add_argument(
        "--logs", type=str, default="logs", metavar="DIR", help="folder in which the run is kept"
    )
    return parser
