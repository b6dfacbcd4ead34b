"""``python -m sgdlit COMMAND``: finds the command, and imports only what that command needs."""

import difflib
import sys
from collections.abc import Sequence

_COMMANDS = {
    "fit": "train: python -m sgdlit fit --config configs/wrn_modified_loss.yaml",
    "sweep": "run a grid of configs and seeds: sweep --config FILE",
    "figure": "draw a sweep from what is stored: figure --config FILE",
    "validate": "evaluate a run on its validation and test sets: validate --run logs/NAME/version_0",
    "test": "evaluate a run on its test set: test --run logs/NAME/version_0",
    "predict": "write a run's predictions for the test set: predict --run logs/NAME/version_0",
    "export": "a member of an ensemble as a run of its own: export --run logs/NAME/version_0 --member 3",
    "data": "download and verify a data set: data cifar10 --root data",
    "reproduce": "check claims of papers, or list them: reproduce smith2021:M1",
}
_HELP = """usage: python -m sgdlit COMMAND ...      (or: sgdlit COMMAND ...)

Experiments on how SGD trains networks.

commands:
{commands}

python -m sgdlit COMMAND --help tells more; configs/ holds the experiments.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 for success, 2 for a mistake in the input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:10}{text}" for name, text in _COMMANDS.items())
        print(_HELP.format(commands=lines), end="")
        return 0
    if arguments[0] == "--version":
        from sgdlit import __version__

        print(__version__)
        return 0
    return _run(arguments[0], arguments[1:])


def _run(command: str, arguments: list[str]) -> int:
    from sgdlit.foundations.console import say
    from sgdlit.foundations.errors import UserError

    try:
        if command == "data":
            from sgdlit.cli.data import main as data

            return data(arguments)
        if command == "export":
            from sgdlit.cli.export import main as export

            return export(arguments)
        if command == "reproduce":
            from sgdlit.cli.reproduce import main as reproduce

            return reproduce(arguments)
        if command in ("sweep", "figure"):
            from sgdlit.cli import sweep as sweep_command

            return getattr(sweep_command, command)(arguments)
        if command in _COMMANDS:
            from sgdlit.cli.fit import main as lightning

            return lightning(command, arguments)
    except UserError as error:
        say(f"sgdlit: error: {error}")
        return 2
    except KeyboardInterrupt:
        say("stopped")
        return 130
    near = difflib.get_close_matches(command, _COMMANDS, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    say(f"sgdlit: error: there is no command {command!r}{meant}\nallowed: {', '.join(_COMMANDS)}")
    return 2


if __name__ == "__main__":
    sys.exit(main())
