"""An ensemble's member is its single run: through the command, for every kind of network and engine."""

import csv
import math
from typing import Any

import pytest
import torch
import yaml
from conftest import REPOSITORY
from fit_runs import TIMES, Runs, charts, differences
from lightning.pytorch import LightningDataModule

from sgdlit.cli.main import main

GRID = "--ensemble=[{seed_everything: [0, 1]}, {model.optimizer.lr: [0.01, 0.05]}]"
DOUBLE = "--trainer.precision=64-true"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("ensemble"))


def member_state(checkpoint: dict[str, Any], k: int) -> dict[str, torch.Tensor]:
    prefix = f"networks.{k}."
    return {n.removeprefix(prefix): v for n, v in checkpoint["state_dict"].items() if n.startswith(prefix)}


def member_rows(runs: Runs, name: str, k: int) -> list[dict[str, str]]:
    """The rows of one member, without the columns that a single run does not have, and without times."""
    rows = [row for row in runs.rows(name) if row["member"] == str(k)]
    return [{n: v for n, v in row.items() if v and n != "member"} for row in rows]


def single_rows(runs: Runs, name: str) -> list[dict[str, str]]:
    return [{n: v for n, v in row.items() if v} for row in runs.rows(name)]


CASES = {
    "momentum": [],
    "penalty, n-step, augmentation": [
        "--model.reg_strength=0.1",
        "--data.repeats=3",
        "--data.augment=true",
        "--data.batch_size=30",
    ],
    "schedule, Adam": [
        "--model.optimizer=torch.optim.Adam",
        "--model.scheduler=torch.optim.lr_scheduler.StepLR",
        "--model.scheduler.step_size=5",
    ],
    "an order that learns from each member's gradients": ["--data.order=sgdlit.data.grab.GraB"],
    "clipped gradients with error feedback and noise": [
        "--model.transform=sgdlit.algorithms.transforms.PerExampleClip",
        "--model.transform.threshold=0.1",
        "--model.transform.feedback_threshold=0.3",
        "--model.transform.noise=0.5",
    ],
    "another optimizer, one at a time": ["--model.optimizer=torch.optim.RMSprop"],
}


@pytest.mark.parametrize("case", CASES)
def test_a_member_is_its_single_run(runs, case, capsys):
    name = f"case{list(CASES).index(case)}"
    assert runs.fit(name, *CASES[case], DOUBLE, GRID) == 0
    assert ("one at a time: RMSprop is not one of" in capsys.readouterr().err) == ("one at a time" in case)
    ensemble = runs.checkpoint(name)
    points = [(seed, lr) for seed in (0, 1) for lr in (0.01, 0.05)]
    for k, (seed, lr) in enumerate(points[1:3], start=1):
        own = [f"--seed_everything={seed}", f"--model.optimizer.lr={lr}", "--model.engine=loop"]
        assert runs.fit(f"{name}_{k}", *CASES[case], DOUBLE, *own) == 0
        single = runs.checkpoint(f"{name}_{k}")
        assert differences(member_state(ensemble, k), member_state(single, 0), tolerance=1e-10) == []
        same_state = differences(
            ensemble["optimizer_states"][k]["state"], single["optimizer_states"][0]["state"], "", 1e-10
        )
        assert same_state == []
        assert differences(member_rows(runs, name, k), single_rows(runs, f"{name}_{k}"), "", 1e-6) == []
        outcome = runs.status(name)["members"][k]
        assert outcome["point"] == {"seed_everything": seed, "model.optimizer.lr": lr}
        assert outcome["reached"] == pytest.approx(
            {n: v for n, v in runs.status(f"{name}_{k}").items() if "/" in n}
        )


def test_a_member_does_not_depend_on_the_others(runs):
    """Alone, in other company, and at another place."""
    grids = [
        "[{seed_everything: [7]}]",
        "[{seed_everything: [3, 7]}]",
        "[{seed_everything: [7, 1, 2, 3, 4]}]",
    ]
    ends = []
    for i, (grid, k) in enumerate(zip(grids, (0, 1, 0), strict=True)):
        assert runs.fit(f"company{i}", DOUBLE, f"--ensemble={grid}") == 0
        ends.append(member_state(runs.checkpoint(f"company{i}"), k))
    assert differences(ends[0], ends[1], tolerance=1e-12) == []
    assert differences(ends[0], ends[2], tolerance=1e-12) == []


def test_a_diverging_member_leaves_the_others_as_they_are(runs):
    """Its rate makes it overflow; the others end with the same bits as beside a member that does not."""
    grid = "--ensemble=[{{model.optimizer.lr: [0.01, {}, 0.05]}}]"
    assert runs.fit("tame", grid.format(0.02)) == 0
    assert runs.fit("wild", grid.format("1.0e+15")) == 0
    states = [member["state"] for member in runs.status("wild")["members"]]
    assert states == ["finished", "diverged", "finished"]
    step = runs.status("wild")["members"][1]["step"]
    assert 0 < step < 20
    tame, wild = runs.checkpoint("tame"), runs.checkpoint("wild")
    for k in (0, 2):
        assert differences(member_state(tame, k), member_state(wild, k)) == []
        assert member_rows(runs, "tame", k) == member_rows(runs, "wild", k)
    last = max(int(row["step"]) for row in member_rows(runs, "wild", 1))
    assert last <= step
    assert runs.status("wild")["state"] == "finished"


def test_when_all_have_diverged_the_run_is_over(runs):
    assert runs.fit("lost", "--ensemble=[{model.optimizer.lr: [1.0e+15, 1.0e+16]}]") == 0
    status = runs.status("lost")
    assert status["state"] == "diverged"
    assert status["step"] < 20
    assert {member["state"] for member in status["members"]} == {"diverged"}


@pytest.mark.parametrize("stops", [[4, 9], [12]])
def test_a_stopped_and_resumed_ensemble_is_the_uninterrupted_one(runs, stops):
    name = f"resume{len(stops)}"
    grid = "--ensemble=[{seed_everything: [0, 1]}, {model.optimizer.lr: [0.01, 1.0e+15]}]"
    stop = ["--trainer.callbacks=fit_runs.SignalAt", f"--trainer.callbacks.steps={stops}"]
    assert runs.fit(f"{name}_straight", grid) == 0
    assert runs.fit(name, grid, *stop) == 128 + 15
    for _ in stops:
        runs.resume(name)
    a, b = runs.checkpoint(f"{name}_straight"), runs.checkpoint(name)
    assert b["global_step"] == 20
    for part in ("state_dict", "optimizer_states", "sgdlit_best"):
        assert _same_bits(a[part], b[part])
    assert runs.rows(f"{name}_straight") == runs.rows(name)
    assert runs.status(f"{name}_straight") == runs.status(name)


def _same_bits(a: Any, b: Any) -> bool:
    """As ``differences``, but a NaN is the same as another: diverged members are kept as they are."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)) and torch.equal(a.isnan(), b.isnan())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same_bits(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same_bits, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def test_the_table_and_the_curves(runs):
    assert runs.fit("table", GRID, "--ensemble_curves=true") == 0
    with (runs.path("table") / "members.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model.optimizer.lr"] for row in rows] == ["0.01", "0.05"] * 2
    assert {row["state"] for row in rows} == {"finished"}
    names = scalars(runs.path("table"))
    for name in ("train/loss", "train/loss_spread", "train/loss/member_3", "test/accuracy_spread"):
        assert name in names
    members = [
        float(row["train/loss"]) for row in runs.rows("table") if row["step"] == "18" and row["train/loss"]
    ]
    assert names["train/loss"][18] == pytest.approx(sum(members) / 4)
    assert names["train/loss_spread"][18] == pytest.approx(float(torch.tensor(members).std()), rel=1e-4)
    assert names["train/loss/member_3"][18] == pytest.approx(members[3])
    assert runs.fit("plain", GRID) == 0
    assert not any("member" in name for name in scalars(runs.path("plain")))


def scalars(folder) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_an_ensemble_is_tested_and_validated(runs, capsys):
    assert runs.fit("evaluated", GRID) == 0
    assert main(["test", "--run", str(runs.path("evaluated"))]) == 0
    facts = yaml.safe_load((runs.path("evaluated") / "test.json").read_text())
    last = [row for row in runs.rows("evaluated") if row["step"] == "20" and row["test/loss"]]
    assert [m["test/loss"] for m in facts["members"]] == pytest.approx([float(r["test/loss"]) for r in last])
    capsys.readouterr()
    assert main(["predict", "--run", str(runs.path("evaluated"))]) == 2
    assert "export a member" in capsys.readouterr().err


class OtherData(LightningDataModule):
    """Batches from somewhere else."""


REFUSED = {
    "unequal": (
        ["--ensemble=[{seed_everything: [0, 1], model.optimizer.lr: [0.1, 0.2, 0.3]}]"],
        "make every key an entry of its own",
    ),
    "shapes": (["--ensemble=[{model.network.widths: [[784, 8, 10], [784, 9, 10]]}]"], r"equal shape"),
    "trainer": (
        ["--ensemble=[{trainer.max_steps: [1, 2]}]"],
        "trainer.max_steps is the same for all members",
    ),
    "batch": (["--ensemble=[{data.batch_size: [5, 10]}]"], "different batches"),
    "clip": ([GRID, "--trainer.gradient_clip_val=1.0"], "gradient_clip_val: 1.0 is not possible with an"),
    "epochs": (["--ensemble=[{data.repeats: [1, 2]}]"], "epochs of 6, 12 steps"),
    "engine": (
        [GRID, "--model.optimizer=torch.optim.RMSprop", "--model.engine=stacked"],
        "RMSprop is not one",
    ),
    "value": (["--ensemble=[{model.optimizer.lr: [0.1, -1.0]}]"], "model.optimizer.lr: -1.0"),
    "key": (["--ensemble=[{model.optimizer.lrr: [0.1]}]"], "did you mean"),
    "data": ([GRID, "--data=test_ensemble.OtherData"], "OtherData cannot serve an ensemble"),
    "ranks": (["--ensemble=[{seed_everything: [0]}]", "--trainer.devices=2"], "2 processes for 1 members"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_an_ensemble_is_refused_and_leaves_no_trace(runs, case, capsys):
    arguments, words = REFUSED[case]
    assert runs.fit(f"refused_{case}", *arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not runs.path(f"refused_{case}").exists()


def test_a_member_is_exported_as_a_run_of_its_own(runs, capsys):
    """Resumed alone it ends where it would have ended in company, and where it would have ended alone."""
    arguments = ["--model.optimizer.momentum=0.9", GRID, DOUBLE]
    assert runs.fit("short", *arguments, "--trainer.max_steps=12") == 0
    assert (
        main(
            ["export", "--run", str(runs.path("short")), "--member", "2", "--logs", str(runs.folder / "logs")]
        )
        == 0
    )
    assert "short_member_2" in capsys.readouterr().err
    exported = runs.path("short_member_2")
    assert main(["test", "--run", str(exported)]) == 0
    test = yaml.safe_load((exported / "test.json").read_text())
    last = [row for row in member_rows(runs, "short", 2) if row.get("test/loss")][-1]
    assert test["test/loss"] == pytest.approx(float(last["test/loss"]))
    assert single_rows(runs, "short_member_2") == member_rows(runs, "short", 2)
    assert_charts_of_all_rows(runs, "short_member_2")
    assert runs.resume("short_member_2", "--trainer.max_steps=20") == 0
    assert_charts_of_all_rows(runs, "short_member_2")
    assert runs.fit("long", *arguments) == 0
    own = ["--model.optimizer.momentum=0.9", DOUBLE, "--seed_everything=1", "--model.optimizer.lr=0.01"]
    assert runs.fit("alone", *own) == 0
    found = runs.checkpoint("short_member_2")
    assert found["global_step"] == 20
    assert (
        differences(member_state(found, 0), member_state(runs.checkpoint("long"), 2), tolerance=1e-10) == []
    )
    assert differences(found["state_dict"], runs.checkpoint("alone")["state_dict"], tolerance=1e-10) == []


def assert_charts_of_all_rows(runs: Runs, name: str) -> None:
    """TensorBoard has every number of the table but those that are 0 throughout."""
    found: dict[str, dict[int, float]] = {}
    for row in runs.rows(name):
        for column, value in row.items():
            if value and column != "step":
                found.setdefault(column, {})[int(row["step"])] = pytest.approx(float(value))
    shown = {column: values for column, values in charts(runs.path(name)).items() if column not in TIMES}
    assert shown == {column: values for column, values in found.items() if column in shown}
    assert all(float(row[column] or 0) == 0 for row in runs.rows(name) for column in found.keys() - shown)


def test_what_cannot_be_exported_is_refused(runs, capsys):
    assert runs.fit("half", "--ensemble=[{model.optimizer.lr: [0.01, 1.0e+15]}]") == 0
    assert runs.fit("single") == 0
    for name, k, words in (
        ("half", 1, "diverged at step"),
        ("half", 2, "allowed: 0 to 1"),
        ("single", 0, "is a single run"),
        ("nowhere", 0, "is missing"),
    ):
        assert main(["export", "--run", str(runs.path(name)), "--member", str(k)]) == 2
        assert words in capsys.readouterr().err


def test_sensing_is_reported_for_each_member(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = str(REPOSITORY / "configs" / "matrix_sensing" / "simple.yaml")
    small = [
        "--model.network.net.widths=[16,16,16]",
        "--data.d=16",
        "--data.steps=300",
        "--model.optimizer.lr=2e-6",
    ]
    grid = "--ensemble=[{seed_everything: [0, 1]}]"
    assert main(["fit", "--config", config, "--name", "both", *small, grid]) == 0
    assert main(["fit", "--config", config, "--name", "one", *small, "--seed_everything=1"]) == 0
    tables = []
    for name in ("both", "one"):
        folder = tmp_path / "logs" / name / "version_0"
        assert (folder / "sensing.png").is_file()
        with (folder / "metrics.csv").open() as file:
            tables.append([row for row in csv.DictReader(file) if row["sensing/relative_error"]])
    both = [row for row in tables[0] if row["member"] == "1"]
    assert [row["step"] for row in both] == [row["step"] for row in tables[1]] == ["0", "100", "200", "300"]
    for a, b in zip(both, tables[1], strict=True):
        for name in ("sensing/relative_error", "sensing/population_risk"):
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-4)
