"""The subcommand ``measures``: what can be measured of a run, what each measure answers, and what it costs;
and the option ``--measures`` of a run.

It imports no torch: the files of ``sgdlit.measures`` are read, not run.
"""

import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed
from sgdlit.measures import catalogue
from sgdlit.measures.presets import PRESETS, measures_by_name

_HEAD = """Prices are in gradients of one example, for n examples of N; what several measures need is computed
once. A run takes them by name, or a preset of them:
  python -m sgdlit fit --config FILE --measures GradientNoise,Sharpness
"""
_CALLBACK = "sgdlit.training.measuring.Measures"
_CADENCE = {"first": 1, "per_doubling": 1}


def main(arguments: Sequence[str]) -> int:
    """Runs ``measures [NAME ...]``; a preset stands for its measures.

    Returns:
        The exit code, 0.

    Raises:
        UserError: a name that there is not.
    """
    chosen = list(arguments)
    if any(argument.startswith("-") for argument in arguments):
        chosen = _parse(arguments)
    chosen = [path.rpartition(".")[2] for path in measures_by_name(chosen)]
    found = {entry.name: entry for entry in catalogue.entries()}
    for name in chosen:
        if name not in found and name not in PRESETS:
            problem = f"measures: there is none called {name!r}{did_you_mean(name, [*found, *PRESETS])}"
            raise UserError(with_allowed(problem, [*PRESETS, *found]))
    chosen = list(dict.fromkeys(one for name in chosen for one in PRESETS.get(name, [name])))
    width = min(shutil.get_terminal_size().columns, 110)
    print(_HEAD)
    print(_presets(width), end="\n\n")
    print("\n\n".join(text(found[name], width) for name in chosen or found))
    return 0


def _parse(arguments: Sequence[str]) -> list[str]:
    """The names among the arguments; names alone need no parser, whose import takes longer than all else."""
    from sgdlit.cli.parser import CommandParser

    parser = CommandParser("measures", "List what can be measured of a run, with formulas and prices.")
    parser.add_argument("names", type=str, nargs="*", metavar="NAME", help="measures to show; none for all")
    return parser.parse(arguments).names


def _presets(width: int) -> str:
    """The measures of each preset, a paragraph for each."""
    texts = []
    for name, measures in PRESETS.items():
        words = [f"{m} ({', '.join(f'{k} {v}' for k, v in given.items())})" if given else m
                 for m, given in measures.items()]  # fmt: skip
        texts.append(
            textwrap.fill(
                f"{name:9} {', '.join(words)}", width, initial_indent="  ", subsequent_indent=" " * 12
            )
        )
    return "\n".join(texts)


def with_measures(callbacks: Any, asked: str) -> list[dict[str, Any]]:
    """The callbacks of a run, of which one takes what ``--measures`` asks for.

    Args:
        callbacks: of the config: None, one, or a list of them.
        asked: a preset, or names of measures with commas between them.

    Raises:
        UserError: a name that there is not, or a measure that needs an argument.
    """
    from jsonargparse import Namespace

    names = measures_by_name(name.strip() for name in asked.split(","))
    _require_no_arguments(names)
    given = callbacks if isinstance(callbacks, list) else [] if callbacks is None else [callbacks]
    found = [one.as_dict() if isinstance(one, Namespace) else one for one in given]
    for one in found:
        if one["class_path"] == _CALLBACK:
            there = one["init_args"]["measures"] or []
            known = [m["class_path"] if isinstance(m, dict) else m for m in there]
            one["init_args"]["measures"] = [*there, *(name for name in names if name not in known)]
            return found
    return [*found, {"class_path": _CALLBACK, "init_args": {"measures": names, "at": _CADENCE}}]


def _require_no_arguments(names: Sequence[str]) -> None:
    """Refuse a measure that a name alone does not make."""
    from sgdlit.config.options import find_class, parameters

    for name in names:
        cls = find_class(name, []) if "." in name else None
        needed = [key for key, option in parameters(cls).items() if option.required] if cls else []
        if cls and needed:
            given = ", ".join(f"{key}: ..." for key in needed)
            raise UserError(
                f"measures: {cls.__name__} needs {', '.join(needed)}; allowed: in a config, as one of "
                f"the callback {_CALLBACK}:\n  {{class_path: {cls.__name__}, init_args: {{{given}}}}}"
            )


def text(entry: catalogue.Entry, width: int) -> str:
    """A measure in some lines of at most ``width`` characters, as far as words allow."""
    lines = {
        "": f"{entry.answers}?",
        "formula": entry.formula,
        "price": entry.price,
        "needs": ", ".join(entry.needs) or "the network",
        "logged": ", ".join(entry.logged),
    }
    if entry.arrays:
        lines["arrays"] = "; ".join(f"{name} {axes}" for name, axes in entry.arrays.items())
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
