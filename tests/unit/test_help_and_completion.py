"""The short help, quiet commands, and what a shell is told: against the parsers, without torch."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sgdlit.cli.completion import completions
from sgdlit.cli.help import short_help
from sgdlit.cli.main import COMMANDS, main
from sgdlit.foundations import console
from sgdlit.foundations.errors import UserError

EXAMPLES = ["--config", "reference", "--data", "sgdlit.data.teachers.MLPTeacher"]


def fit_options(*words: str) -> set[str]:
    return {*completions(["fit", *words, "-"])}


def test_the_options_of_fit_are_those_of_its_parser(capsys):
    """Of Lightning's parser, as ``--help all`` shows them."""
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--help", "all"])
    found = re.findall(r"^  (?:-\w \w+, )?(--[a-z_.]+)", capsys.readouterr().out, re.MULTILINE)
    parsers, known = {option for option in found if not option.endswith(".help")}, fit_options()
    models = {option for option in known if option.startswith("--model.")}
    assert parsers - known <= {"--trainer", "--model", "--data", "--checkpoints", "--weights_only"}
    assert known - parsers - models == {"--help", "--quiet", "--resume"}


def test_the_help_of_fit_fits_one_screen_and_names_what_there_is():
    text = short_help("fit", ["--config", "x", "-h"])
    assert text is not None
    assert len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= 110
    known = fit_options(*EXAMPLES)
    known |= fit_options("--data", "sgdlit.data.finite.fashion_mnist.FashionMNIST")
    known |= {"--model.optimizer.lr", "--model.network.widths", "--data", "--measures"}
    named = {option for option in re.findall(r"--[a-z_.]+", text) if option != "--data.help"}
    assert named - known <= {"--trainer.callbacks."}


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_help_of_evaluations(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"sgdlit {command} --run" in capsys.readouterr().out


def test_help_and_completion_import_no_torch():
    code = (
        "import sys; from sgdlit.cli.main import main; main(['fit', '--help']); "
        "main(['completion', '--', 'fit', '--config', 'xor', '--trainer.']); "
        "assert not {'torch', 'lightning', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fi"], ["fit", "figure"]),
        (["fit", "--config", "wrn_m"], ["wrn_modified_loss"]),
        (["fit", "--config", "xor", "--model.network.w"], ["--model.network.widths"]),
        (["fit", "--data", "sgdlit.data.teachers.XOR", "--data.batch"], ["--data.batch_size"]),
        (["fit", "--trainer.max_s"], ["--trainer.max_steps"]),
        (["fit", "--checkpoints.s"], ["--checkpoints.snapshots"]),
        (["fit", "--name", "x"], []),
        (["sweep", "--config", "quick/f", "--dry"], ["--dry-run"]),
        (["runs", "c"], ["compare"]),
        (["runs", "compare", ""], ["logs/a/version_0"]),
        (["fit", "--resume", "logs/"], ["logs/a/version_0"]),
        (["data", "f"], ["fashion_mnist"]),
        (["reproduce", "barr"], ["barrett2021"]),
        (["configs", "show", "butter"], ["butterfly"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["nothing", "x"], []),
        (["fit", "--config", "own.yaml", "--model.mine"], ["--model.mine_too"]),
        (["fit", "--config", "broken.yaml", "--trainer.max_s"], ["--trainer.max_steps"]),
    ],
)
def test_what_may_stand_there(words, expected, tmp_path, monkeypatch):
    (tmp_path / "logs" / "a" / "version_0").mkdir(parents=True)
    (tmp_path / "own.yaml").write_text("model: {class_path: own.Mine}")
    (tmp_path / "broken.yaml").write_text("model: {")
    (tmp_path / "own.py").write_text("class Mine:\n    def __init__(self, mine_too: int) -> None: ...\n")
    monkeypatch.chdir(tmp_path)
    found = completions(words)
    assert found == expected or (len(expected) == 1 and expected[0] in found), found
    assert all(word.startswith(words[-1]) for word in found)


def test_every_command_has_options():
    assert all("--help" in completions([command, "-"]) for command in COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "sgdlit completion --" in capsys.readouterr().out
    assert main(["completion", "cmd"]) == 2
    assert "allowed: bash, zsh, fish" in capsys.readouterr().err


def test_bash_completes_with_it(tmp_path):
    """The script in a real bash, with a command ``sgdlit`` on the path."""
    command = tmp_path / "sgdlit"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m sgdlit "$@"\n')
    command.chmod(0o755)
    script = (
        f'PATH={tmp_path}:$PATH; eval "$(sgdlit completion bash)"; '
        "COMP_WORDS=(sgdlit fit --trainer.max_s); COMP_CWORD=2; _sgdlit; echo ${COMPREPLY[@]}"
    )
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "--trainer.max_steps"


def test_a_quiet_command_tells_only_what_went_wrong(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["fit", "--config", "xor", "--trainer.max_steps", "3", "--trainer.accelerator", "cpu"]
    assert main([*given, "--quiet"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    assert Path("logs/xor/version_0/metrics.csv").is_file()
    assert main([*given, "--quiet", "--trainer.max_step", "3"]) == 2
    assert "did you mean max_steps" in capsys.readouterr().err
    with pytest.raises(UserError), console.quiet():
        raise UserError("")
    console.say("loud again")
    assert capsys.readouterr().err == "loud again\n"


def test_the_console_script_finds_a_module_in_the_current_folder(tmp_path):
    """As ``python -m sgdlit`` does: the script's own folder comes first on the path otherwise."""
    (tmp_path / "mine_alone.py").write_text("raise RuntimeError('found, and run')\n")
    code = "import sys; sys.path[0] = '/'; from sgdlit.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "reproduce", "mine_alone.paper"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "found, and run" in found.stderr
