"""Nothing that a stranger wrote is executed or written elsewhere, and no changed bit is loaded."""

import importlib
import os
import random
from pathlib import Path

import pytest
import torch
import yaml
from fit_runs import Runs

from sgdlit.cli.main import main
from sgdlit.foundations import native
from sgdlit.foundations.errors import UserError
from sgdlit.runs.checkpoint_files import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is not allowed, denied by"
)  # of jsonargparse, which goes on

library = importlib.import_module(
    "sgdlit.foundations.native.library"
)  # the package has a function of that name


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("hostile"))
    assert runs.fit("victim", "--trainer.max_steps=6") == 0
    members = "--ensemble=[{seed_everything: [0, 1]}]"
    assert runs.fit("together", members, "--trainer.max_steps=6") == 0
    return runs


def make_folder(path):
    """What no list of forbidden modules names, and whose types nobody knows."""
    Path(path).mkdir()


class MakesFolder:
    """The same as a class."""

    def __init__(self, parameters: object, path: str) -> None:
        Path(path).mkdir()


CALLS = {
    "a function of nobody's list": {
        "class_path": "test_hostile_files.make_folder",
        "init_args": {"path": "PLACE"},
    },
    "a class of nobody's list": {
        "class_path": "test_hostile_files.MakesFolder",
        "init_args": {"path": "PLACE"},
    },
    "a function": {"class_path": "os.mkdir", "init_args": {"path": "PLACE"}},
    "a class": {"class_path": "subprocess.Popen", "init_args": {"args": ["mkdir", "PLACE"]}},
    "a function of torch": {"class_path": "torch.save", "init_args": {"f": "PLACE"}},
}


def hostile(place: Path, key: str, case: str) -> dict:
    """A config whose optimizer or schedule would make a file."""
    text = yaml.safe_dump({"model": {key: CALLS[case]}}).replace("PLACE", str(place))
    return yaml.safe_load(text)


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("key", ["optimizer", "scheduler"])
def test_only_an_optimizer_is_called_as_one(runs, tmp_path, key, case, capsys):
    place, config = tmp_path / "made", tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(hostile(place, key, case)))
    assert runs.fit("hostile", "--config", str(config)) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert not place.exists()
    assert not runs.path("hostile").exists()


@pytest.mark.parametrize(
    "command", [["fit", "--resume"], ["test", "--run"], ["predict", "--run"], ["validate", "--run"]]
)
def test_the_config_of_a_run_calls_nothing_either(runs, tmp_path, command, capsys):
    place, folder = tmp_path / "made", runs.path("victim")
    text = (folder / "config.yaml").read_text()
    config = yaml.safe_load(text)
    config["model"]["init_args"]["optimizer"] = {"class_path": "os.mkdir", "init_args": {"path": str(place)}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    try:
        assert main([*command, str(folder)]) == 2
    finally:
        (folder / "config.yaml").write_text(text)
    assert "model.optimizer: 'os.mkdir' is not allowed" in capsys.readouterr().err
    assert not place.exists()


def test_a_member_calls_nothing_either(runs, tmp_path, capsys):
    place = tmp_path / "made"
    call = f"{{class_path: os.mkdir, init_args: {{path: {place}}}}}"
    axes = f"[{{model.optimizer: [{{class_path: torch.optim.SGD}}, {call}]}}]"
    assert runs.fit("hostile_members", f"--ensemble={axes}") == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not place.exists()


@pytest.mark.parametrize("name", ["../../evil", "/evil", "  ", "a\nb", "n" * 300, 7])
def test_a_run_is_written_among_runs_only(runs, tmp_path, name, capsys):
    folder = runs.path("together")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load(text) | {"name": name}))
    try:
        logs = tmp_path / "a" / "logs"
        assert main(["export", "--run", str(folder), "--member", "1", "--logs", str(logs)]) == 2
    finally:
        (folder / "config.yaml").write_text(text)
    said = capsys.readouterr().err
    assert "name: " in said
    assert "Traceback" not in said
    assert list(tmp_path.rglob("*evil*")) == []
    if isinstance(name, str):
        assert runs.fit(name) == 2
        assert "Traceback" not in capsys.readouterr().err


def test_a_link_beside_a_checkpoint_is_not_followed(tmp_path):
    target = tmp_path / "precious"
    target.write_text("mine")
    (tmp_path / ".resume.ckpt.partial").symlink_to(target)
    save_checkpoint({"a": torch.zeros(2)}, tmp_path / "resume.ckpt")
    assert target.read_text() == "mine"
    assert torch.equal(torch.load(tmp_path / "resume.ckpt", weights_only=True)["a"], torch.zeros(2))


def test_no_flipped_bit_is_loaded_as_another_number(runs, tmp_path):
    """A flip in bytes that no reader looks at may pass, but then everything is as it was."""
    source = runs.path("victim") / "checkpoints" / "resume.ckpt"
    good, content = source.read_bytes(), load_checkpoint(source)
    draw, path, refused = random.Random(0), tmp_path / "resume.ckpt", 0
    for _ in range(200):
        bits = bytearray(good)
        bits[draw.randrange(len(bits))] ^= 1 << draw.randrange(8)
        path.write_bytes(bits)
        try:
            found = load_checkpoint(path)
        except UserError as error:
            refused += "cannot be read safely" in str(error) or "not a whole checkpoint" in str(error)
            continue
        for name, tensor in content["state_dict"].items():
            assert found["state_dict"][name].equal(tensor)
        assert found["global_step"] == content["global_step"]
    assert refused > 150


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    if native.compiler() is None:
        pytest.skip("there is no C compiler")
    monkeypatch.setenv("SGDLIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "library_path", library.library_path.__wrapped__)
    monkeypatch.setattr(library, "library", library.library.__wrapped__)
    return tmp_path / "cache"


def test_a_library_that_was_cut_off_is_built_anew(cache):
    library.library("philox")
    path = library.library_path("philox")
    whole = path.read_bytes()
    path.unlink()  # the old file stays where this process has it in memory
    path.write_bytes(whole[: len(whole) // 2])
    assert library.library("philox").philox_words
    assert path.read_bytes() == whole


def test_a_library_that_others_may_write_is_not_loaded(cache, monkeypatch):
    library.library("philox")
    path, loaded = library.library_path("philox"), []
    real = library.ctypes.CDLL
    monkeypatch.setattr(library.ctypes, "CDLL", lambda name: loaded.append(name) or real(name))
    library.library("philox")
    assert loaded == [str(path)]
    os.chmod(cache, 0o777)
    library.library("philox")
    assert loaded[1] != str(path)
