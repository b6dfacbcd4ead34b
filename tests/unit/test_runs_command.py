"""Runs are listed, compared and removed; never one that is being written."""

import json
import os

import pytest
import yaml

from sgdlit.cli.main import main
from sgdlit.runs.folder import locked


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """Two runs and an ensemble, as they are on disk."""
    monkeypatch.chdir(tmp_path)

    def run(name, version, config, status, written):
        folder = tmp_path / "logs" / name / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "status.json").write_text(json.dumps(status))
        for path in folder.iterdir():
            os.utime(path, (written, written))
        return str(folder.relative_to(tmp_path))

    def model(lr):
        return {"class_path": "T", "init_args": {"optimizer": {"init_args": {"lr": lr}}, "widths": [8, lr]}}

    first = {"state": "finished", "step": 1200, "test/highest_accuracy": 0.75}
    a = run("a", 0, {"name": "a", "model": model(0.1)}, first, 1_000_000)
    b = run("a", 1, {"name": "a", "model": model(0.2)}, {"state": "diverged", "step": 7}, 2_000_000)
    members = [{"point": {"s": k}, "state": "finished", "step": 9, "reached": {"e": k + 0.5}} for k in (0, 1)]
    together = {"state": "finished", "step": 9, "members": members}
    c = run("c", 0, {"name": "c", "ensemble": [{"s": [0, 1]}]}, together, 3_000_000)
    return a, b, c


def test_runs_are_listed_newest_first(logs, capsys):
    assert main(["runs"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "state", "steps", "reached", "size", "age"]
    assert [line.split()[0] for line in lines] == ["c/version_0", "a/version_1", "a/version_0"]
    assert "e 0.5 to 1.5, 2 members" in lines[0]
    assert lines[2].split()[1:5] == ["finished", "1,200", "test/highest_accuracy", "0.75"]


@pytest.mark.parametrize(
    ("options", "expected"), [(["--name", "c/"], ["c/version_0"]), (["--state", "diverged"], ["a/version_1"])]
)
def test_a_list_can_be_narrowed(logs, options, expected, capsys):
    assert main(["runs", *options]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == expected


def test_a_damaged_run_is_listed_as_such(logs, tmp_path, capsys):
    (tmp_path / logs[0] / "status.json").write_text("{")
    assert main(["runs"]) == 0
    assert "unreadable" in capsys.readouterr().out


@pytest.mark.parametrize("state", ["running", "failed"])
def test_an_ensemble_that_has_not_ended_is_listed_with_its_state(logs, tmp_path, state, capsys):
    (tmp_path / logs[2] / "status.json").write_text(json.dumps({"state": state, "step": 3}))
    assert main(["runs", "--name", "c/", "--state", state]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[:5] == ["c/version_0", state, "3", "2", "members"]


def test_what_differs_between_runs_is_shown(logs, capsys):
    assert main(["runs", "compare", logs[0], logs[1]]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["set", "model.optimizer.lr", "0.1", "0.2"] in shown
    assert ["reached", "state", "finished", "diverged"] in shown
    assert ["reached", "test/highest_accuracy", "0.75"] in shown
    assert ["set", "model.widths.1", "0.1", "0.2"] in shown
    assert not any("name" in line or "model.widths" in line for line in shown)


def test_a_run_is_removed_after_a_question(logs, tmp_path, monkeypatch, capsys):
    for answer, there in (("n", True), ("y", False)):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert main(["runs", "remove", logs[0]]) == 0
        assert (tmp_path / logs[0]).exists() == there
    assert main(["runs", "remove", "--yes", logs[2]]) == 0
    assert not (tmp_path / logs[2]).exists()
    assert (tmp_path / logs[1]).exists()


def test_a_run_that_is_being_written_is_not_removed(logs, tmp_path, capsys):
    """Locks are those of processes: the writer is another one."""
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with locked(tmp_path / logs[1]):
            os.write(ready[1], b"1")
            os.read(done[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        assert main(["runs", "remove", "--yes", logs[0], logs[1]]) == 2
        assert "is writing this run" in capsys.readouterr().err
        assert (tmp_path / logs[0]).exists()
        assert (tmp_path / logs[1]).exists()
    finally:
        os.write(done[1], b"1")
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "is not a folder"),
        (["compare", "logs/a/version_0"], "two runs or more"),
        (["remove", "logs/a"], "not the folder of a run"),
        (["--state", "over"], "allowed: running, finished, stopped, diverged, failed"),
    ],
)
def test_mistakes_are_answered(logs, arguments, expected, capsys):
    assert main(["runs", *arguments]) == 2
    assert expected in capsys.readouterr().err
