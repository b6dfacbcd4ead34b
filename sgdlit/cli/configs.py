"""``python -m sgdlit configs``: the configs that come with the package. It imports no torch.

configs                     list them, a line each
configs show NAME           print one
configs copy NAME [FILE]    make a copy to change
"""

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sgdlit.cli.parser import CommandParser
from sgdlit.config.shipped import about, require, shipped
from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import write_atomically

_TAIL = """
A command takes them by name: python -m sgdlit fit --config matrix_sensing/simple
Those of sweeps/ are for the command sweep. configs show NAME prints one, configs copy NAME makes a copy."""


def main(arguments: Sequence[str]) -> int:
    """Runs ``configs [show NAME | copy NAME [FILE]]``.

    Returns:
        The exit code, 0.

    Raises:
        UserError: there is no such config; the file of the copy exists, or cannot be written.
    """
    own = _parser().parse(arguments)
    if own.action == "list":
        if own.name is not None:
            raise UserError(f"configs list: {own.name!r} is too much; allowed: configs show {own.name}")
        print("\n".join(_lines()))
        print(_TAIL)
        return 0
    if own.name is None:
        raise UserError(f"configs {own.action}: the name of a config is missing; configs lists them")
    source = require(own.name)
    if own.action == "show":
        if own.file is not None:
            raise UserError(
                f"configs show: {own.file!r} is too much; allowed: configs copy {own.name} {own.file}"
            )
        print(source.read_text(encoding="utf-8"), end="")
    else:
        _copy(source, Path(own.file or source.name))
    return 0


def _lines() -> list[str]:
    known, columns = shipped(), shutil.get_terminal_size((130, 24)).columns
    width = max(map(len, known), default=0) + 2
    lines = (f"{name:.<{width}} {about(path)}" for name, path in known.items())
    return [textwrap.shorten(line, columns, placeholder=" …") for line in lines]


def _copy(source: Path, target: Path) -> None:
    if target.is_dir():
        target = target / source.name
    if target.exists():
        raise UserError(f"{target}: exists already; allowed: a new file, as in configs copy NAME FILE")
    try:
        write_atomically(target, source.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror})") from error
    say(f"wrote {target}; run it with --config {target}")


def _parser() -> CommandParser:
    parser = CommandParser(
        "configs",
        "List, show or copy the configs that come with the package.",
        "%(prog)s [show NAME | copy NAME [FILE]]",
    )
    parser.add_argument(
        "action", nargs="?", type=Literal["list", "show", "copy"], default="list", help="what to do"
    )
    parser.add_argument("name", nargs="?", type=str | None, default=None, help="of a config, such as xor")
    parser.add_argument(
        "file", nargs="?", type=str | None, default=None, help="of the copy (default: its own name here)"
    )
    return parser
