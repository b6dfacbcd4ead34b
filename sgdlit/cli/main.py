"""How is it called? ``python -m sgdlit COMMAND`` finds the command, and imports only what it needs.

A command is a function of its arguments that returns an exit code, in a module of this folder.
"""

import pkgutil
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext

_LIGHTNING = "sgdlit.cli.fit:main"  # it is told which of its commands was called
COMMANDS = {
    "fit": (_LIGHTNING, "train: python -m sgdlit fit --config configs/wrn_modified_loss.yaml"),
    "sweep": ("sgdlit.cli.sweep:main", "run a grid of configs and seeds: sweep --config FILE"),
    "figure": ("sgdlit.cli.figure:main", "draw a sweep, or a run, from what is stored: figure --config FILE"),
    "validate": (
        _LIGHTNING,
        "evaluate a run on its validation and test sets: validate --run logs/NAME/version_0",
    ),
    "test": (_LIGHTNING, "evaluate a run on its test set: test --run logs/NAME/version_0"),
    "predict": (
        _LIGHTNING,
        "write a run's predictions for the test set: predict --run logs/NAME/version_0",
    ),
    "export": (
        "sgdlit.cli.export:main",
        "a member of an ensemble as a run of its own: export --run logs/NAME/version_0 --member 3",
    ),
    "configs": (
        "sgdlit.cli.configs:main",
        "list, show or copy the configs that come along: configs show xor",
    ),
    "runs": (
        "sgdlit.cli.runs:main",
        "list, compare or remove runs: runs compare logs/A/version_0 logs/B/version_0",
    ),
    "data": ("sgdlit.cli.data:main", "download and verify a data set: data cifar10 --root data"),
    "measures": (
        "sgdlit.cli.measures:main",
        "list what can be measured of a run, with formulas and prices: measures GradientNoise",
    ),
    "measure": (
        "sgdlit.cli.measure:main",
        "take measures of a run afterwards: measure --run logs/NAME/version_0 --measures Sharpness",
    ),
    "reproduce": (
        "sgdlit.cli.reproduce:main",
        "check claims of papers, or list them: reproduce smith2021:M1",
    ),
    "completion": (
        "sgdlit.cli.completion:main",
        'complete commands, configs and options in a shell: eval "$(sgdlit completion bash)"',
    ),
}
"""Command: its function, as ``module:function``, and what it is for, with an example."""

_HELP = """usage: python -m sgdlit COMMAND ...      (or: sgdlit COMMAND ...)

Experiments on how SGD trains networks.

commands:
{commands}

python -m sgdlit COMMAND --help tells more; with --quiet it says only what went wrong.
python -m sgdlit configs lists the experiments.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: command and arguments; None for those of the process.

    Returns:
        The exit code: 0 for success, 2 for a mistake in the input or a fault of disk or file system, 130
        where Ctrl-C stopped it.
    """
    command, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        lines = "\n".join(f"  {name:12}{about}" for name, (_, about) in COMMANDS.items())
        print(_HELP.format(commands=lines), end="")
        return 0
    if command == "--version":
        from sgdlit import __version__

        print(__version__)
        return 0
    from sgdlit.foundations.console import say
    from sgdlit.foundations.errors import UserError, in_words, refused_by_the_system

    try:
        return _run(command, arguments)
    except UserError as error:
        say(f"sgdlit: error: {error}")
        return 2
    except KeyboardInterrupt:
        say("stopped")
        return 130
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        say(f"sgdlit: error: {in_words(refused_by_the_system(error) or error)}")
        return 2


def process() -> int:
    """Run the command of this process, whether or not anybody reads what it says; the exit code."""
    from sgdlit.foundations.console import READER_HAS_GONE, end_output, outlast_readers, say

    outlast_readers()
    threading.excepthook = _end_of_thread
    try:
        return end_output(main())
    except BrokenPipeError:
        return end_output(READER_HAS_GONE)
    except OSError as error:
        say(f"sgdlit: error: standard output: {error.strerror}")
        return 2


def _end_of_thread(error: threading.ExceptHookArgs) -> None:
    """Say nothing of a file that a thread could not write: whoever waits for the thread says so."""
    if not isinstance(error.exc_value, OSError):
        threading.__excepthook__(error)


def _run(command: str, arguments: list[str]) -> int:
    if command not in COMMANDS:
        from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed

        problem = f"there is no command {command!r}{did_you_mean(command, COMMANDS)}"
        raise UserError(with_allowed(problem, list(COMMANDS)))
    from sgdlit.cli.help import asks_for_all, short_help
    from sgdlit.config.shipped import with_paths
    from sgdlit.foundations.console import quiet
    from sgdlit.foundations.late_imports import load_late
    from sgdlit.foundations.threads import sleep_while_waiting

    load_late()
    sleep_while_waiting()
    where, _ = COMMANDS[command]
    if where == _LIGHTNING:
        text = short_help(command, arguments)
        if text is not None:
            print(text, end="")
            return 0
        if asks_for_all(arguments):
            arguments = ["--help"]
        elif command == "fit":
            from sgdlit.foundations.native import build_ahead

            build_ahead(("philox",), ("steps", "REAL=float"))  # most streams and linear networks ask for them
    function = pkgutil.resolve_name(where)
    if sys.path[0] != "":
        sys.path.insert(0, "")  # class paths in the current folder, also where the command is called sgdlit
    silent = "--quiet" in arguments
    arguments = with_paths([argument for argument in arguments if argument != "--quiet"])
    with quiet() if silent else nullcontext():
        return function(command, arguments) if where == _LIGHTNING else function(arguments)
