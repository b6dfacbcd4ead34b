"""The pages of the docs as what they are: files that are written, commands that are called, code that runs.

A block of YAML or Python whose first line is ``# NAME.yaml`` or ``# NAME.py`` is a file. Any other block of
Python is run, one after another, as the cells of a notebook are. A block without a language that follows is
what it printed. A block of shell holds lines ``python -m sgdlit COMMAND ...``.
"""

import contextlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from sgdlit.cli.main import main

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
CONFIGS = sorted((REPOSITORY / "configs").rglob("*.yaml"))
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md")), *CONFIGS]
"""Where commands stand: blocks of these pages, and comments at the head of configs."""
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\w+\.(?:yaml|py))$")
_NUMBER = re.compile(r"-?\d+\.\d+")
_COMMAND = re.compile(r"python -m sgdlit (.*?)\s*(?:# (.*))?(?:&&|; |\)|$)", re.MULTILINE)


class Block(NamedTuple):
    """A block of a page: its heading, its language and its text."""

    heading: str
    language: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    """Those of a page, in order."""
    for part in re.split(r"^## ", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE):
        heading = part.partition("\n")[0]
        for language, text in _BLOCK.findall(part):
            yield Block(heading, language, text)


class Command(NamedTuple):
    """A line ``python -m sgdlit ...``: its words after that, and the comment beside it."""

    words: list[str]
    comment: str


def commands(page: Path) -> list[Command]:
    """Those in the blocks of a page, or in the comments of a config; not those within sentences."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".yaml":
        lines = [line[1:] for line in text.splitlines() if line.startswith("#  ")]
        text = "\n".join(lines)
    else:
        text = "\n".join(block for _, block in _BLOCK.findall(text))
    found = _COMMAND.findall(text.replace("\\\n", " "))
    return [Command(shlex.split(words), comment) for words, comment in found]


def configs_of(words: Sequence[str]) -> list[str]:
    """What follows each ``--config``."""
    return [value for option, value in pairwise(words) if option == "--config"]


def runs_said() -> dict[str, int]:
    """How many runs a config has, where the comment beside a command says ``N runs``."""
    found = {}
    for page in PAGES:
        for words, comment in commands(page):
            if count := re.search(r"(\d+) runs", comment):
                (config,) = configs_of(words)
                found[config] = int(count[1])
    return found


def run_page(
    page: str, headings: Sequence[str] | None = None, smaller: Mapping[str, Sequence[str]] | None = None
) -> dict[str, object]:
    """Run the blocks of a page in the present folder; the names that they left.

    Args:
        page: its file.
        headings: beginnings of those whose blocks are run; None for all.
        smaller: arguments that make a command shorter, by the name of the command.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    has_pandas = importlib.util.find_spec("pandas") is not None
    printed = None
    for heading, language, text in blocks(page):
        if headings is not None and not heading.startswith(tuple(headings)):
            continue
        if language == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                _call(line, smaller or {})
        elif file := _FILE.match(text.partition("\n")[0]):
            Path(file[1]).write_text(text)
        elif language == "python" and "import pandas" in text and not has_pandas:
            printed = None
        elif language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(text, f"{page}: {heading}", "exec"), names)
            printed = out.getvalue()
        elif language == "" and printed is not None:
            assert_alike(printed, text)
            printed = None
    return names


def _call(line: str, smaller: Mapping[str, Sequence[str]]) -> None:
    python, module, package, command, *arguments = shlex.split(line)
    assert (python, module, package) == ("python", "-m", "sgdlit"), line
    assert main([command, *arguments, *smaller.get(command, [])]) == 0, line


def assert_alike(printed: str, shown: str) -> None:
    """The same words, and numbers with a point up to a twentieth: they are rounded, and machines differ."""
    assert _NUMBER.sub("0.0", printed).split() == _NUMBER.sub("0.0", shown).split(), printed
    found, expected = (list(map(float, _NUMBER.findall(text))) for text in (printed, shown))
    assert found == pytest.approx(expected, rel=0.05, abs=0.02), printed
