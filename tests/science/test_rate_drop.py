"""G3: the learning rate falls by ten and the loss at once, in the noisy quadratic model and in a network."""

import csv

import numpy as np
import pytest
from conftest import REPOSITORY

from sgdlit.cli.main import main
from sgdlit.foundations.errors import UserError
from sgdlit.papers.schedules_of_runs import learning_rates
from sgdlit.papers.studies.options import RateDropOptions
from sgdlit.papers.studies.rate_drop import run

CONFIG = REPOSITORY / "configs" / "rate_drop" / "fashion_mlp.yaml"
SMALL = {
    "model.network.widths": "[784,32,10]", "data.batch_size": "2", "data.val_size": "2000",
    "model.scheduler.milestones": "[1000]", "trainer.max_steps": "1500", "trainer.val_check_interval": "50",
    "trainer.limit_val_batches": "2", "trainer.accelerator": "cpu", "trainer.logger": "false",
    "trainer.enable_progress_bar": "false",
}  # fmt: skip


def fit(folder, name, **given):
    changed = SMALL | {key.replace("__", "."): value for key, value in given.items()}
    arguments = [part for key, value in changed.items() for part in (f"--{key}", value)]
    assert main(["fit", "--config", str(CONFIG), "--logs", str(folder), "--name", name, *arguments]) == 0


def test_the_model_falls_at_once_to_its_new_floor():
    study = run(RateDropOptions(dimensions=20, steps=400, simulations=40))
    assert not [str(claim) for claim in study.claims if not claim.holds]
    rows = study.tables["model"]
    floors = sorted({row["floor"] for row in rows})
    assert len(floors) == 2
    assert floors[0] < 0.1 * floors[1]  # F6: a little less than a tenth
    assert {row["lr"] for row in rows} == {0.5, 0.05}


def test_a_network_on_real_images_falls_at_once_too(real_data, tmp_path, capsys):
    """Two runs at a small size; without a drop of the rate there is nothing to look at."""
    root = str(real_data / "fashion-mnist")
    for seed in ("0", "1"):
        fit(tmp_path, "drop", data__root=root, seed_everything=seed)
    out = tmp_path / "out"
    small = ["--steps", "400", "--simulations", "20", "--out", str(out)]
    assert main(["theory", "rate-drop", "--runs", str(tmp_path / "drop"), *small]) == 0
    printed = capsys.readouterr().out
    assert "3 of 3 claims hold" in printed
    assert "val/loss of 2 runs of drop" in printed
    assert (out / "rate_drop.png").stat().st_size > 20_000
    rows = list(csv.DictReader((out / "network.csv").read_text().splitlines()))
    assert sorted({float(row["lr"]) for row in rows}) == pytest.approx([0.005, 0.05])
    fit(tmp_path, "none", data__root=root, model__scheduler__gamma="1.0", trainer__max_steps="100")
    with pytest.raises(UserError, match="0 drops of the rate"):
        run(RateDropOptions(runs=str(tmp_path / "none")))
    with pytest.raises(UserError, match="there is no column 'val/nothing'"):
        run(RateDropOptions(runs=str(tmp_path / "drop"), metric="val/nothing"))


def test_a_steady_fall_is_not_sudden():
    from sgdlit.papers.studies.rate_drop import _sudden_fall

    steps = np.arange(1, 101)
    steady = np.exp(-0.02 * steps)
    assert not _sudden_fall("steady", steps, steady, 50).holds
    assert _sudden_fall("falling", steps, np.where(steps > 50, 0.5, 1.0) * np.exp(-0.002 * steps), 50).holds
    assert not _sudden_fall("rising", steps, np.where(steps > 50, 2.0, 1.0), 50).holds
    with pytest.raises(UserError, match="too few"):
        _sudden_fall("short", steps[::40], steady[::40], 50)


def test_rates_are_those_of_the_schedule():
    def config(**scheduler):
        return {
            "model": {"init_args": {"optimizer": {"init_args": {"lr": 0.5}}, "scheduler": scheduler or None}}
        }

    assert learning_rates(config(), 3) == [0.5] * 3
    step = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2, "gamma": 0.1}}
    assert learning_rates(config(**step), 5) == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005])
    warm = {"class_path": "sgdlit.training.schedules.SampleWarmUp", "init_args": {"samples": 4, "start": 0.5}}
    assert learning_rates(config(**warm), 4) == pytest.approx([0.25, 0.375, 0.5, 0.5])
    for path, arguments in (
        ("os.system", {"command": "false"}),
        ("torch.optim.lr_scheduler.ReduceLROnPlateau", {"monitor": "val/loss"}),
    ):
        with pytest.raises(UserError, match="not known without the run"):
            learning_rates(config(class_path=path, init_args=arguments), 3)
    with pytest.raises(UserError, match=r"model\.optimizer\.lr: missing"):
        learning_rates({"model": {}}, 3)


def test_options_that_cannot_be_are_named():
    for given, named in (
        ({"lr": 2.0}, r"lr = 2\.0: must lie above 0 and below 2"),
        ({"steps": 3}, "steps = 3"),
        ({"factor": 1.0}, r"factor = 1\.0"),
        ({"simulations": 1}, "simulations = 1"),
    ):
        with pytest.raises(UserError, match=named):
            run(RateDropOptions(**given))
