"""Every kind of folder that ``fit`` leaves, read back with ``load_run``; and two processes on one folder."""

import json
import math

import numpy as np
import pytest
import torch
from fit_runs import Runs, processes, wait_until

import sgdlit.figures
from sgdlit import load_run
from sgdlit.cli.main import main

ENSEMBLE = "--ensemble=[{model.network.activation: [relu, tanh], model.optimizer.lr: [0.01, 0.02]}]"
HALF_LOST = "--ensemble=[{model.optimizer.lr: [0.01, 1.0e+15]}]"
KINDS = {
    "single": [],
    "double": ["--trainer.precision=64-true"],
    "diverged": ["--model.optimizer.lr=1e15"],
    "ensemble": [ENSEMBLE],
    "half_lost": [HALF_LOST],
    "unlogged": ["--trainer.log_every_n_steps=1000", "--trainer.limit_val_batches=0"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("folders"))
    for name, arguments in KINDS.items():
        assert runs.fit(name, *arguments) == 0
    assert runs.fit("resumed", "--trainer.max_steps=12") == 0
    assert runs.resume("resumed", "--trainer.max_steps=20") == 0
    assert (
        main(["export", "--run", str(runs.path("ensemble")), "--member=1", f"--logs={runs.folder}/logs"]) == 0
    )
    return runs


ALL = [*KINDS, "resumed", "ensemble_member_1"]


@pytest.mark.parametrize("name", ALL)
def test_metrics_are_what_a_table_takes(runs, name):
    run = load_run(runs.path(name))
    table = run.metrics
    assert len({len(column) for column in table.values()}) == 1
    assert all(
        column.dtype == (np.int64 if n in ("step", "member") else np.float64) for n, column in table.items()
    )
    assert ("member" in table) == (not run.alone) == (name in ("ensemble", "half_lost"))
    written: dict[tuple[str, str], dict[str, str]] = {}
    for row in runs.rows(name):
        given = {column: text for column, text in row.items() if text != ""}
        written.setdefault((row["step"], row.get("member", "")), dict.fromkeys(row, "")).update(given)
    assert len(table["step"]) == len(written)
    for k, row in enumerate(written.values()):
        for column, text in row.items():
            value = table[column][k]
            assert math.isnan(value) if text in ("", "nan") else value == float(text)


@pytest.mark.parametrize("name", ALL)
def test_config_status_and_members(runs, name):
    run = load_run(runs.path(name))
    assert run.config["name"] == name
    assert run.value("model.network.widths") == [784, 16, 10]
    assert run.state == run.status["state"] == ("diverged" if name == "diverged" else "finished")
    states = {"diverged": ["diverged"], "ensemble": ["finished"] * 2, "half_lost": ["finished", "diverged"]}
    assert [member.state for member in run.members] == states.get(name, ["finished"])
    for k, member in enumerate(run.members):
        for column, (steps, values) in member.columns.items():
            own = run.column(column, None if run.alone else k)
            np.testing.assert_equal(own, (steps, values))
            best = member.reached.get(f"{column.partition('/')[0]}/lowest_loss")
            if column.endswith("/loss") and best is not None:
                assert best == values.min()
    assert [run.value("model.optimizer.lr", k) for k in range(len(run.members))] == {
        "diverged": [1e15],
        "ensemble": [0.01, 0.02],
        "half_lost": [0.01, 1e15],
        "ensemble_member_1": [0.02],
    }.get(name, [0.01])


def evaluated(runs, network) -> float:
    """Mean cross-entropy on the test set, by hand."""
    from fit_runs import datamodule

    data = datamodule(runs)
    dtype = next(network.parameters()).dtype
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(network(x.to(dtype)), y, reduction="none")
            for x, y in data.test_dataloader()
        ]
    return float(torch.cat(losses).double().mean())


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("diverged", "unlogged")])
def test_the_trained_network_is_that_of_the_run(runs, name):
    """Its loss on the test set is what the run logged at its end."""
    run = load_run(runs.path(name))
    before = torch.get_rng_state()
    for k, member in enumerate(run.members):
        if member.state == "finished":
            network = run.network(member=k, checkpoint="resume")
            assert not network.training
            assert evaluated(runs, network) == pytest.approx(member.columns["test/loss"][1][-1], rel=1e-5)
    assert torch.equal(torch.get_rng_state(), before)
    dtype = torch.float64 if name == "double" else torch.float32
    assert {p.dtype for p in run.network(checkpoint="resume").parameters()} == {dtype}


def test_the_checkpoint_is_the_best_unless_another_is_named(runs):
    run = load_run(runs.path("single"))
    best, last = runs.checkpoint("single", "best"), runs.checkpoint("single")
    assert run.checkpoint()["global_step"] == run.checkpoint("best")["global_step"] == best["global_step"]
    assert run.checkpoint("resume")["global_step"] == last["global_step"] == 20
    for name in ("best", "resume"):
        state = run.network(checkpoint=name).state_dict()
        there = runs.checkpoint("single", name)["state_dict"]
        assert all(torch.equal(value, there[f"networks.0.{key}"]) for key, value in state.items())


def test_a_run_in_flight_is_not_resumed_by_another_process(runs, capsys):
    """The refusal names the folder and the process, and leaves the run as it is."""
    slow = ["--trainer.max_steps=100000000", "--checkpoints.every_n_steps=50"]
    (running,) = processes([["-m", "sgdlit", *runs.arguments("flight", *slow)]], [{}], runs.folder)
    try:
        folder = runs.path("flight")
        wait_until((folder / "checkpoints" / "resume.ckpt").exists, running)
        assert runs.resume("flight") == 2
        said = capsys.readouterr().err
        assert f"{folder}: process {running.pid} on " in said
        assert "is writing this run" in said
        assert json.loads((folder / "status.json").read_text())["state"] == "running"
    finally:
        running.kill()
        running.wait()
    assert runs.resume("flight", "--trainer.max_steps=60") == 0


def test_a_picture_of_a_run_by_name(runs, tmp_path, capsys, monkeypatch):
    """``figures/NAME.py`` has ``draw(run)``; the config or ``--name`` says which."""
    (tmp_path / "own_picture.py").write_text(OWN_PICTURE)
    monkeypatch.setattr(sgdlit.figures, "__path__", [*sgdlit.figures.__path__, str(tmp_path)])
    folder = str(runs.path("single"))
    assert main(["figure", "--run", folder, "--name", "own_picture", "--out", str(tmp_path), "--svg"]) == 0
    assert "wrote own_picture.png, own_picture.svg into" in capsys.readouterr().err
    assert "drawn from single" in (tmp_path / "own_picture.svg").read_text()
    assert main(["figure", "--run", str(runs.path("unlogged")), "--name", "own_picture"]) == 0
    assert "nothing to draw yet" in capsys.readouterr().err
    for arguments, words in {
        (
            "--run",
            folder,
            "--name",
            "own_pictur",
        ): "figure: there is no picture 'own_pictur' of a run; did you mean own_picture?",
        ("--run", folder, "--name", "style"): "figure: there is no picture 'style' of a run",
        ("--run", folder, "--config", "x.yaml"): "--config: not together with --run",
        ("--name", "own_picture"): "--run: missing",
        ("--run", str(tmp_path)): f"{tmp_path}: not the folder of a run",
    }.items():
        assert main(["figure", *arguments]) == 2
        assert capsys.readouterr().err.startswith(f"sgdlit: error: {words}")
    assert runs.fit("misdrawn", "--figure", "own_pictur") == 2
    assert "did you mean own_picture?" in capsys.readouterr().err
    assert not runs.path("misdrawn").exists()
    assert runs.fit("drawn", "--figure", "own_picture") == 0
    assert (runs.path("drawn") / "own_picture.png").exists()


OWN_PICTURE = """
from sgdlit.figures.style import panels


def draw(run):
    if "test/loss" not in run.metrics:
        return None
    figure, (ax,) = panels(1, 1)
    ax.plot(*run.column("test/loss"))
    ax.set_title(f"drawn from {run.config['name']}")
    return figure
"""
