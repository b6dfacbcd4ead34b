"""``python -m sgdlit``: what is loaded for the help, and what is said of a command that there is not."""

import pkgutil
import subprocess
import sys

import pytest

from sgdlit.cli.main import COMMANDS, main


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


@pytest.mark.parametrize("command", ["data", "export", "sweep", "figure"])
def test_help_comes_without_torch(command):
    script = (
        "import atexit, sys; from sgdlit.cli.main import main\n"
        "atexit.register(lambda: print('torch' in sys.modules))\n"
        f"main([{command!r}, '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: python -m sgdlit {command}")
    assert done.stdout.endswith("\nFalse\n")
