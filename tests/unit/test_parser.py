"""The parser of the commands: a mistake names the option, the value, the nearest name and what is allowed."""

from dataclasses import dataclass
from typing import Literal

import pytest

from sgdlit.cli.export import main as export
from sgdlit.cli.parser import CommandParser
from sgdlit.foundations.errors import UserError


def example() -> CommandParser:
    parser = CommandParser("example", "An example.")
    parser.add_argument("name", type=Literal["cifar10", "fashion-mnist"], help="which")
    parser.add_argument("--root", type=str, required=True, metavar="DIR", help="where")
    parser.add_argument("--jobs", type=int, default=1, help="how many")
    parser.add_argument("--launcher", type=Literal["here", "slurm"], default="here")
    parser.add_argument("--rerun", nargs="+", metavar="KEY=VALUE")
    parser.add_argument("--dry-run", action="store_true")
    return parser


MISTAKES = {
    "cifar --root x": "name: 'cifar' is not allowed; did you mean cifar10? allowed: cifar10, fashion-mnist",
    "cifar10": "--root: missing; allowed: where",
    "--root x": "name: missing; allowed: cifar10, fashion-mnist",
    "cifar10 --root": "--root: expected one argument",
    "cifar10 --root x --rerun": "--rerun: expected at least one argument",
    "cifar10 --root x --jobs two": "--jobs: 'two' is not allowed; allowed: int",
    "cifar10 --root x --jobs=2.5": "--jobs: '2.5' is not allowed; allowed: int",
    "cifar10 --root x --launcher slrum": "--launcher: 'slrum' is not allowed; did you mean slurm? "
    "allowed: here, slurm",
    "cifar10 --root x --launche here": "--launche: there is no such option; did you mean --launcher?",
    "cifar10 --root x --laun=here": "--laun: there is no such option",
    "cifar10 --root x stray": "stray: not understood; options begin with --",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_named_with_what_is_allowed(arguments):
    with pytest.raises(UserError) as caught:
        example().parse(arguments.split())
    assert str(caught.value).startswith(MISTAKES[arguments])


def test_export_reads_its_arguments_with_it():
    for arguments, words in {
        "--run x --membr 1": "--membr: there is no such option; did you mean --member?",
        "--run x --member one": "--member: 'one' is not allowed; allowed: int",
        "--member 1": "--run: missing; allowed: folder of the ensemble: logs/NAME/version_K",
    }.items():
        with pytest.raises(UserError) as caught:
            export(arguments.split())
        assert str(caught.value).startswith(words)


def test_values_have_their_types():
    given = example().parse(["cifar10", "--root=x", "--jobs", "3", "--rerun", "a=1", "b=2", "--dry-run"])
    assert (given.name, given.root, given.jobs, given.launcher) == ("cifar10", "x", 3, "here")
    assert (given.rerun, given.dry_run) == (["a=1", "b=2"], True)


def test_options_of_another_parser_are_handed_on_in_order():
    parser = CommandParser("example", "An example.")
    parser.add_argument("--store", type=str)
    parser.add_argument("--rerun", nargs="+")
    parser.add_argument("--dry-run", action="store_true")
    arguments = ["--config", "a.yaml", "--store=x", "--lr", "-1", "--rerun", "a=1", "b=2", "--dry-run"]
    own, others = parser.parse_own([*arguments, "--sweep.seeds", "3"])
    assert (own.store, own.rerun, own.dry_run) == ("x", ["a=1", "b=2"], True)
    assert others == ["--config", "a.yaml", "--lr", "-1", "--sweep.seeds", "3"]
    with pytest.raises(UserError, match="--store: expected one argument"):
        parser.parse_own(["--config", "a.yaml", "--store"])


@dataclass
class Settings:
    """Settings.

    Args:
        steps: how many.
        rule: which.
    """

    steps: int = 3
    rule: Literal["sgd", "adam"] = "sgd"


def test_a_dataclass_and_a_file_of_options(tmp_path):
    parser = CommandParser("example", "An example.")
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Settings)
    file = tmp_path / "settings.yaml"
    file.write_text("steps: 5\n")
    assert parser.parse(["--config", str(file), "--rule", "adam"]).steps == 5
    for text, problem in {
        "stps: 5": "stps: there is no such option; did you mean steps?",
        "steps: few": "steps: 'few' is not allowed; allowed: int",
        "rule: adm": "rule: 'adm' is not allowed; did you mean adam? allowed: sgd, adam",
    }.items():
        file.write_text(text + "\n")
        with pytest.raises(UserError) as caught:
            parser.parse(["--config", str(file)])
        assert str(caught.value).startswith(problem)


def test_the_help_says_types_and_defaults_that_there_are(capsys):
    with pytest.raises(SystemExit) as stop:
        example().parse(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "usage: python -m sgdlit example" in said
    assert "how many (type: int, default: 1)" in said
    assert "null" not in said
