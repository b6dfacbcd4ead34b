"""The measures that there are, read from the files of this folder without running them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from sgdlit.foundations.definitions import defined_in

_FOLDER = Path(__file__).parent
_CONSTANTS = ("formula", "answers", "price", "needs", "logged", "arrays")
_CLASS = re.compile(r"^class ([A-Za-z]\w*)(?:\((\w+).*?\))?:(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_METHOD = re.compile(r"^    (?:def |@)", re.MULTILINE)


class Entry(NamedTuple):
    """A measure as the catalogue shows it, see :class:`sgdlit.measures.measure.Measure`."""

    name: str
    file: str
    formula: str
    answers: str
    price: str
    needs: tuple[str, ...]
    logged: tuple[str, ...]
    arrays: dict[str, str]


class _Class(NamedTuple):
    """A class at the top of a file: its first base, what stands before its methods, and whether one of them
    is ``take``."""

    base: str
    text: str
    takes: bool


@cache
def _classes() -> dict[str, _Class]:
    """The public classes of the files by name. Methods are not parsed: it would take most of the time."""
    found = {}
    for path in sorted(_FOLDER.glob("[!_]*.py")):
        for name, base, text in _CLASS.findall(path.read_text(encoding="utf-8")):
            found[name] = _Class(base, _METHOD.split(text, maxsplit=1)[0], "\n    def take(" in text)
    return found


@cache
def homes() -> dict[str, str]:
    """The file of every public function and class."""
    return {name: file for name, file in defined_in(_FOLDER).items() if file != "catalogue"}


def entries() -> list[Entry]:
    """All measures, by name; nothing is imported for it.

    Raises:
        ValueError: a constant of a measure is no literal.
    """
    found = []
    for name in sorted(homes()):
        lineage = list(_lineage(name))
        if lineage[-1:] == ["Measure"] and name != "Measure" and _is_complete(lineage):
            constants = _constants(lineage)
            found.append(Entry(name, homes()[name], **constants))
    return found


def _lineage(name: str) -> Iterator[str]:
    """A class and its first bases within the folder, itself first."""
    while name in _classes():
        yield name
        name = _classes()[name].base


def _is_complete(lineage: list[str]) -> bool:
    """Whether a class of the lineage, ``Measure`` apart, says how it is taken."""
    return any(_classes()[name].takes for name in lineage[:-1])


def _constants(lineage: list[str]) -> dict[str, Any]:
    """The constants of a class, its own before those of its bases; they stand before its methods."""
    found: dict[str, Any] = {}
    for name in reversed(lineage):
        for part in ast.walk(ast.parse(f"class {name}:{_classes()[name].text}")):
            if isinstance(part, ast.Assign | ast.AnnAssign):
                target = part.targets[0] if isinstance(part, ast.Assign) else part.target
                if isinstance(target, ast.Name) and target.id in _CONSTANTS:
                    found[target.id] = ast.literal_eval(part.value) if part.value else ""
    return found
