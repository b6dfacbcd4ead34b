"""docs/adding.md as it stands: its files in a copy of the package, its commands, the tests that find them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "adding.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = {
    command: output.splitlines()
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for command, output in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE)
}

# Runs commands in one process, which imports torch once, and keeps what each printed.
RUN = """
import contextlib, io, json, shlex, sys

printed = {}
for command in json.loads(sys.argv[1]):
    _, _, program, *arguments = shlex.split(command)
    words = io.StringIO()
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
        if program == "pytest":
            import pytest
            code = pytest.main(["-p", "no:cacheprovider", "-n", "0", *arguments])
        else:
            from sgdlit.cli.main import main
            try:
                code = main(arguments)
            except SystemExit as end:  # of --help
                code = end.code
    printed[command] = [int(code or 0), words.getvalue()]
print(json.dumps(printed))
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What each command printed, with its exit code."""
    house = tmp_path_factory.mktemp("house")
    for name in ("sgdlit", "configs", "tests"):
        shutil.copytree(REPOSITORY / name, house / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", house)
    for path, source in FILES.items():
        assert not (house / path).exists(), f"{path} is no new file"
        (house / path).write_text(source, encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment = clean | {"PYTHONPATH": str(house), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    tests = [command for command in COMMANDS if " pytest " in command]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, json.dumps(part)],
            cwd=house,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for part in (tests, [command for command in COMMANDS if command not in tests])
    ]
    found: dict[str, tuple[int, str]] = {}
    for process in processes:
        out, errors = process.communicate()
        assert process.returncode == 0, errors
        found |= json.loads(out.splitlines()[-1])
    return found


def test_the_page_shows_a_file_of_each_kind():
    rooms = ["algorithms/rules", "data", "data", "data/finite", "measures", "models", "papers"]
    assert sorted(path.rpartition("/")[0] for path in FILES) == [f"sgdlit/{room}" for room in rooms]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_what_the_page_says(command, printed):
    code, words = printed[command]
    assert code == 0, words
    for line in COMMANDS[command]:
        assert is_shown(line, words), f"{line}\nis not in\n{words}"


def is_shown(line: str, words: str) -> bool:
    """Whether a line was printed, however it was broken: decimal numbers to 3 %, any count of tests."""
    decimal = r"\d+\.\d+"
    parts = re.split(decimal, "".join(line.split()))
    pattern = re.sub(r"\d+passed", r"\\d+passed", f"({decimal})".join(map(re.escape, parts)))
    pairs = (
        zip(re.findall(decimal, line), found.groups(), strict=True)
        for found in re.finditer(pattern, "".join(words.split()))
    )
    return any(all(float(b) == pytest.approx(float(a), rel=0.03) for a, b in pair) for pair in pairs)
