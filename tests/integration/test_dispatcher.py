"""``python -m sgdlit``: what is loaded for the help, and what is said of a command that there is not."""

import os
import pkgutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from sgdlit.cli.main import COMMANDS, main
from sgdlit.foundations.threads import SPINS


def test_the_help_names_every_command_and_loads_nothing(capsys):
    assert main([]) == main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {command} " in said for command in COMMANDS)
    script = "import sys; from sgdlit.cli.main import main; main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    for module in ("torch", "numpy", "lightning", "jsonargparse", "rich", "yaml"):
        assert f"'{module}'" not in loaded


def test_a_command_that_there_is_not(capsys):
    assert main(["swep"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("sgdlit: error: there is no command 'swep'; did you mean sweep?")
    assert all(command in said for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_there(command):
    assert callable(pkgutil.resolve_name(COMMANDS[command][0]))


LIGHT = """
import os, sys
from sgdlit.cli.main import COMMANDS, main

def light(*arguments):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    heavy = [name for name in ("torch", "lightning", "scipy", "matplotlib") if name in sys.modules]
    if code or heavy:
        sys.exit(f"{' '.join(arguments)}: exit code {code}, imported {heavy}")

for command in COMMANDS.keys() - {"fit", "validate", "test", "predict"}:  # which list what classes accept
    light(command, "--help")
for arguments in (
    ["configs"], ["configs", "show", "xor"], ["measures"], ["measures", "Sharpness"], ["runs", "."],
    ["runs", "compare", "--help"], ["runs", "remove", "--help"], ["reproduce"], ["reproduce", "--dry-run"],
    ["reproduce", "--all", "--dry-run"], ["reproduce", "smith2021", "--dry-run"],
):
    light(*arguments)
print(os.environ["GOMP_SPINCOUNT"])  # set before torch is loaded
print("all of them")
"""


def test_help_and_lists_come_without_torch(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    environment.pop("GOMP_SPINCOUNT", None)
    script = [sys.executable, "-c", LIGHT]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.endswith(f"\n{SPINS}\nall of them\n"), done.stderr
    assert all(f"usage: python -m sgdlit {command}" in done.stdout for command in ("figure", "sweep", "data"))
