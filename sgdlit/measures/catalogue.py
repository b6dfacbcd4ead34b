"""The measures that there are, read from the files of this folder without running them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from sgdlit.foundations.definitions import defined_in

_FOLDER = Path(__file__).parent
_CONSTANTS = ("formula", "answers", "price", "needs", "logged", "arrays")


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


@cache
def _definitions() -> dict[str, tuple[str, ast.ClassDef | ast.FunctionDef]]:
    """The public classes and functions of the files by name, each with its file."""
    found = {}
    for path in sorted(_FOLDER.glob("*.py")):
        if path.stem in ("__init__", "catalogue"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                found[node.name] = path.stem, node
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
    while name in _definitions():
        yield name
        node = _definitions()[name][1]
        bases = [base.id for base in getattr(node, "bases", []) if isinstance(base, ast.Name)]
        name = bases[0] if bases else ""


def _class(name: str) -> ast.ClassDef:
    node = _definitions()[name][1]
    assert isinstance(node, ast.ClassDef)
    return node


def _is_complete(lineage: list[str]) -> bool:
    """Whether a class of the lineage, ``Measure`` apart, says how it is taken."""
    bodies = (part for name in lineage[:-1] for part in _class(name).body)
    return any(isinstance(part, ast.FunctionDef) and part.name == "take" for part in bodies)


def _constants(lineage: list[str]) -> dict[str, Any]:
    """The constants of a class, its own before those of its bases."""
    found: dict[str, Any] = {}
    for name in reversed(lineage):
        for part in _class(name).body:
            targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]
            for target in targets:
                if isinstance(target, ast.Name) and target.id in _CONSTANTS:
                    assert isinstance(part, ast.Assign | ast.AnnAssign)
                    found[target.id] = ast.literal_eval(part.value) if part.value else ""
    return found
