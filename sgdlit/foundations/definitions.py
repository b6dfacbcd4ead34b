"""Which classes and functions the files of a folder define, read from their text: nothing is imported."""

import re
from functools import cache
from pathlib import Path

_DEFINITION = re.compile(r"^(?:class|def) ([A-Za-z]\w*)", re.MULTILINE)


@cache
def defined_in(folder: Path) -> dict[str, str]:
    """The public classes and functions at the top of the modules of a folder, each with its module's name."""
    found = {}
    for path in sorted(folder.glob("[!_]*.py")):
        for name in _DEFINITION.findall(path.read_text(encoding="utf-8")):
            found[name] = path.stem
    return found
