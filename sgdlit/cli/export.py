"""``python -m sgdlit export``: one member of an ensemble as the folder of an ordinary run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sgdlit.foundations.console import say
from sgdlit.runs.reading import Run


def main(arguments: Sequence[str]) -> int:
    """Write the folder and say where it is.

    Raises:
        UserError: the folder is no ensemble's, or the member does not exist or has diverged.
    """
    parser = argparse.ArgumentParser(prog="python -m sgdlit export", description=__doc__.split("\n")[0])
    parser.add_argument("--run", required=True, help="folder of the ensemble: logs/NAME/version_K")
    parser.add_argument("--member", required=True, type=int, help="number of the member, from 0")
    parser.add_argument("--logs", default="logs", help="folder in which the run is kept")
    given = parser.parse_args(list(arguments))
    from sgdlit.runs.export import export_member
    from sgdlit.training.joining import member_config

    run = Run(Path(given.run))
    target = export_member(run, given.member, Path(given.logs), member_config)
    say(
        f"member {given.member} of {run.folder} at step {run.members[given.member].step}: written to {target}"
    )
    return 0
