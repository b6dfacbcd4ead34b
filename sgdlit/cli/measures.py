"""The subcommand ``measures``: what can be measured of a run, what each measure answers, and what it costs.

It imports no torch: the files of ``sgdlit.measures`` are read, not run.
"""

import shutil
import textwrap
from collections.abc import Sequence

from sgdlit.cli.parser import CommandParser
from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed
from sgdlit.measures import catalogue

_HEAD = """Prices are in gradients of one example, for n examples of N; what several measures need is computed
once. A run takes them by name:
  --trainer.callbacks sgdlit.training.measuring.Measures --trainer.callbacks.measures "[GradientNoise]"
"""


def main(arguments: Sequence[str]) -> int:
    """Runs ``measures [NAME ...]``.

    Returns:
        The exit code, 0.

    Raises:
        UserError: a name that there is not.
    """
    chosen = _parser().parse(arguments).names
    found = {entry.name: entry for entry in catalogue.entries()}
    for name in chosen:
        if name not in found:
            problem = f"measures: there is none called {name!r}{did_you_mean(name, found)}"
            raise UserError(with_allowed(problem, list(found)))
    print(_HEAD)
    width = min(shutil.get_terminal_size().columns, 110)
    print("\n\n".join(text(found[name], width) for name in chosen or found))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser("measures", "List what can be measured of a run, with formulas and prices.")
    parser.add_argument("names", type=str, nargs="*", metavar="NAME", help="measures to show; none for all")
    return parser


def text(entry: catalogue.Entry, width: int) -> str:
    """A measure in some lines of at most ``width`` characters, as far as words allow."""
    lines = {
        "": f"{entry.answers}?",
        "formula": entry.formula,
        "price": entry.price,
        "needs": ", ".join(entry.needs) or "the network",
        "logged": ", ".join(entry.logged),
    }
    shown = [
        textwrap.fill(
            words,
            width,
            initial_indent=f"  {label:8} " if label else "  ",
            subsequent_indent=" " * (11 if label else 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for label, words in lines.items()
    ]
    return "\n".join([entry.name, *shown])
