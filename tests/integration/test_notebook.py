"""Runs and sweeps from Python: trained with the result of the command line, and read back."""

import shutil

import numpy as np
import pytest

import sgdlit
from sgdlit.cli.main import main
from sgdlit.config.shipped import require
from sgdlit.foundations.errors import UserError

SMALL = {"trainer.max_steps": 40, "trainer.log_every_n_steps": 10, "data.test_size": 200}


def test_fit_from_python_is_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = sgdlit.fit("xor", SMALL, {"model.optimizer.lr": 0.25}, name="python")
    assert run.folder.as_posix() == "logs/python/version_0"
    assert (run.state, run.value("model.optimizer.lr")) == ("finished", 0.25)
    options = [f"--{key}={value}" for key, value in SMALL.items()]
    assert main(["fit", "--config", "xor", *options, "--model.optimizer.lr=0.25", "--name=line"]) == 0
    other = sgdlit.load_run("logs/line/version_0")
    for name in ("train/loss", "test/loss"):
        assert np.array_equal(run.column(name)[1], other.column(name)[1])
    for mine, theirs in zip(run.network().parameters(), other.network().parameters(), strict=True):
        assert mine.equal(theirs)


def test_values_of_every_kind_arrive(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    axes = [{"seed_everything": [0, 1]}]
    run = sgdlit.fit("xor", SMALL, {"model.network.widths": [40, 8, 1]}, ensemble=axes, logs="elsewhere")
    assert run.folder.as_posix() == "elsewhere/xor/version_0"
    assert run.value("model.network.widths") == [40, 8, 1]
    assert len(run.members) == 2


def test_a_mistake_is_a_user_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="lr"):
        sgdlit.fit("xor", {"model.optimizer.lrr": 0.1})
    assert not (tmp_path / "logs").exists()
    with pytest.raises(UserError, match="fast_dev_run"):
        sgdlit.fit("xor", {"trainer.fast_dev_run": True})


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Four cells, of two rates and two seeds."""
    folder = tmp_path_factory.mktemp("sweep")
    text = require("xor").read_text()
    axes = "\nsweep:\n  seeds: 2\n  grids:\n    rate:\n      - model.optimizer.lr: [0.1, 0.5]\n"
    axes += "  metric: {name: test/loss, when: final}\n"
    (folder / "sweep.yaml").write_text(text + axes)
    options = [f"--{key}={value}" for key, value in SMALL.items()]
    store = folder / "store"
    assert main(["sweep", "--config", str(folder / "sweep.yaml"), "--store", str(store), *options]) == 0
    return store


def test_a_sweep_is_read_back(sweep):
    found = sgdlit.load_sweep(sweep)
    assert found.cells["model.optimizer.lr"] == [0.1, 0.1, 0.5, 0.5]
    assert found.cells["seed"] == [0, 1, 0, 1]
    assert found.cells["state"] == ["finished"] * 4
    steps, values = found.curve(2, "test/loss")
    assert steps[-1] == 40
    assert values[-1] == found.cells["test/loss.final"][2]
    table = found.statistics("test/loss")
    ends = found.cells["test/loss.final"]
    assert table["center"] == pytest.approx([sum(ends[:2]) / 2, sum(ends[2:]) / 2])
    assert table["runs"] == [2, 2]


def test_what_a_sweep_has_not_is_said(sweep, tmp_path):
    found = sgdlit.load_sweep(sweep)
    with pytest.raises(UserError, match="did you mean test/loss"):
        found.curve(0, "test/los")
    with pytest.raises(UserError, match="allowed: 0 to 3"):
        found.curve(4, "test/loss")
    with pytest.raises(UserError, match="allowed: final, lowest, highest"):
        found.statistics("test/loss", "last")
    with pytest.raises(UserError, match="no sweep is stored"):
        sgdlit.load_sweep(tmp_path)


def test_a_cell_that_was_not_run_is_in_the_table(sweep, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(sweep, copy)
    next((copy / "runs").glob("*.json")).unlink()
    found = sgdlit.load_sweep(copy)
    assert found.cells["state"].count("not run") == 1
    missing = found.cells["state"].index("not run")
    assert found.cells["test/loss.final"][missing] is None
    with pytest.raises(UserError, match="has not been run"):
        found.curve(missing, "test/loss")
