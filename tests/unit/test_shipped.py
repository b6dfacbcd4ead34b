"""The configs that come along are found by name, in a clone and in a wheel, and the command shows them."""

from pathlib import Path

import pytest

from sgdlit.cli.main import main
from sgdlit.config import shipped
from sgdlit.foundations.errors import UserError

ROOT = Path(__file__).parent.parent.parent


def test_every_config_has_a_name_and_a_first_line_of_its_own():
    files = sorted((ROOT / "configs").rglob("*.yaml"))
    assert sorted(shipped.shipped().values()) == files
    lines = {shipped.about(path) for path in files}
    assert len(lines) == len(files)
    assert all(len(line) > 20 for line in lines)


@pytest.mark.parametrize("text", ["teachers/xor", "xor", "configs/teachers/xor.yaml", "teachers/xor.yaml"])
def test_a_config_goes_by_its_name_or_the_end_of_it(text):
    assert shipped.find(text) == ROOT / "configs" / "teachers" / "xor.yaml"


def test_an_ambiguous_end_finds_nothing():
    """Two configs are called fashion_mlp, one of them at the top, and two shapes, none of them there."""
    assert shipped.find("fashion_mlp") == ROOT / "configs" / "fashion_mlp.yaml"
    assert shipped.find("shapes") is None


def test_a_file_that_is_there_comes_before_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = str(ROOT / "configs" / "teachers" / "xor.yaml")
    assert shipped.with_paths(["--config", "xor", "--name", "xor", "--config=xor"]) == [
        "--config",
        found,
        "--name",
        "xor",
        f"--config={found}",
    ]
    (tmp_path / "xor").write_text("name: mine\n")
    assert shipped.with_paths(["--config", "xor"]) == ["--config", "xor"]


def test_the_wheel_takes_every_folder_of_configs():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    taken = settings["tool"]["setuptools"]["data-files"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")}
    assert taken == {f"share/sgdlit/{folder}": [f"{folder}/*.yaml"] for folder in folders}


def test_an_installed_package_finds_what_the_wheel_put_beside_it(tmp_path, monkeypatch):
    class File:
        def __init__(self, name):
            self.name = name

        def as_posix(self):
            return self.name

        def locate(self):
            return tmp_path / self.name

    names = ["sgdlit/config/shipped.py", "../../../share/sgdlit/configs/teachers/xor.yaml"]
    monkeypatch.setattr(shipped, "_CLONE", tmp_path / "nowhere")
    monkeypatch.setattr("importlib.metadata.files", lambda package: [File(name) for name in names])
    shipped.shipped.cache_clear()
    try:
        assert list(shipped.shipped()) == ["teachers/xor"]
        assert shipped.find("xor") == (tmp_path / names[1]).resolve()
    finally:
        shipped.shipped.cache_clear()


def test_the_command_lists_shows_and_copies(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["configs"]) == 0
    assert "matrix_sensing/simple" in capsys.readouterr().out
    assert main(["configs", "show", "xor"]) == 0
    source = (ROOT / "configs" / "teachers" / "xor.yaml").read_text()
    assert capsys.readouterr().out == source
    assert main(["configs", "copy", "xor"]) == 0
    assert (tmp_path / "xor.yaml").read_text() == source
    assert "wrote xor.yaml" in capsys.readouterr().err
    assert main(["configs", "copy", "xor"]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "xr"], "did you mean xor?"),
        (["show"], "the name of a config is missing"),
        (["list", "xor"], "allowed: configs show xor"),
        (["show", "xor", "file"], "allowed: configs copy xor file"),
        (["delete", "xor"], "allowed: list, show, copy"),
        (["copy", "xor", "no/such/folder/a.yaml"], "cannot be written"),
    ],
)
def test_mistakes_are_answered(arguments, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["configs", *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_a_name_that_is_none_is_refused_where_a_config_is_read():
    with pytest.raises(UserError, match="did you mean wrn_modified_loss"):
        shipped.require("wrn_modified_los")
