"""Names read from text are those that Python finds."""

import ast

import pytest
from conftest import REPOSITORY

from sgdlit.foundations.definitions import defined_in

ROOMS = ("data", "data/finite", "algorithms/rules", "measures", "models", "objectives", "training", "theory")


@pytest.mark.parametrize("room", ROOMS)
def test_the_names_are_those_of_the_syntax(room):
    folder = REPOSITORY / "sgdlit" / room
    found = {}
    for path in sorted(folder.glob("[!_]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                found[node.name] = path.stem
    assert found
    assert defined_in(folder) == found
