"""fit, validate, test and predict as a user calls them, on small files in the official format."""

import csv
import json
import re

import pytest
import torch
import yaml
from conftest import REPOSITORY
from official_formats import write_cifar10

from sgdlit.cli.main import main

CONFIG = """
name: tiny
model:
  class_path: sgdlit.training.module.Training
  init_args:
    network:
      class_path: sgdlit.models.MLP
      init_args: {widths: [3072, 16, 10]}
    reg_strength: 0.01
    optimizer:
      class_path: torch.optim.SGD
      init_args: {lr: 0.05}
data:
  class_path: sgdlit.data.finite.cifar10.CIFAR10
  init_args: {root: files, batch_size: 10, val_size: 30, eval_batch_size: 17, augment: false}
trainer: {max_steps: 40, accelerator: cpu, log_every_n_steps: 10, val_check_interval: 3}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path


def rows_of(run):
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_and_what_follows_it(folder, capsys):
    write_cifar10(folder / "files", per_file=20, test=43)
    assert main(["fit", "--config", "tiny.yaml"]) == 0
    run = folder / "logs" / "tiny" / "version_0"
    closing = capsys.readouterr().err.strip().splitlines()[-1]
    assert closing.startswith("finished at step 40: ")
    assert "logs/tiny/version_0" in closing

    rows = rows_of(run)
    tested = [float(row["test/accuracy"]) for row in rows if row["test/accuracy"]]
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["step"]) == ("finished", 40)
    assert status["test/highest_accuracy"] == max(tested)
    validated = [
        (float(row["val/accuracy"]), float(row["test/accuracy"])) for row in rows if row["val/accuracy"]
    ]
    best_val = max(val for val, _ in validated)
    first_best = next(test for val, test in validated if val == best_val)
    assert status["test/accuracy_at_best_val"] == first_best
    assert [int(row["step"]) for row in rows if row["train/loss"]] == [0, 10, 20, 30]
    assert any((run / "events").parent.glob("events.out.tfevents.*"))

    assert main(["test", "--run", str(run)]) == 0
    assert json.loads((run / "test.json").read_text())["test/accuracy"] == pytest.approx(first_best)
    assert main(["validate", "--run", str(run)]) == 0
    assert json.loads((run / "validate.json").read_text())["val/accuracy"] == pytest.approx(best_val)
    capsys.readouterr()
    assert main(["predict", "--run", str(run)]) == 0
    assert "predicts as it was initialised" not in capsys.readouterr().err
    with (run / "predictions.csv").open() as file:
        predicted = list(csv.DictReader(file))
    right = [row["label"] == row["predicted"] for row in predicted]
    assert len(right) == 43
    assert sum(right) / 43 == pytest.approx(first_best)
    assert sorted(path.name for path in folder.iterdir()) == ["files", "logs", "tiny.yaml"]
    assert main(["predict", "--config", "tiny.yaml"]) == 0
    assert "none is given, so the network predicts as it was initialised" in capsys.readouterr().err


def test_rows_agree_with_each_other(folder):
    write_cifar10(folder / "files")
    assert main(["fit", "--config", "tiny.yaml", "--data.val_size", "0"]) == 0
    trained = [row for row in rows_of(folder / "logs" / "tiny" / "version_0") if row["train/loss"]]
    for row in trained:
        loss, c_reg, strength = (
            float(row[key]) for key in ("train/loss", "train/C_reg", "train/reg_strength")
        )
        assert float(row["train/modified_loss"]) == pytest.approx(loss + strength * c_reg)
        assert (float(row["train/lr"]), strength) == (0.05, 0.01)


def test_at_no_strength_c_reg_is_a_quarter_of_the_squared_gradient(folder):
    write_cifar10(folder / "files")
    plain = ["fit", "--config", "tiny.yaml", "--model.reg_strength", "0"]
    assert main(plain) == 0
    assert (
        main([*plain, "--model.objective", "ExactPenalty", "--model.objective.penalty_batch_size", "10"]) == 0
    )
    assert main([*plain, "--trainer.accumulate_grad_batches", "5"]) == 0
    own, measured, accumulated = (rows_of(folder / "logs" / "tiny" / f"version_{k}") for k in range(3))
    own, measured, accumulated = (
        [r for r in rows if r["train/loss"]] for rows in (own, measured, accumulated)
    )
    for row, *others in zip(own, measured, accumulated, strict=True):
        assert float(row["train/C_reg"]) == pytest.approx(float(row["train/gradient_norm"]) ** 2 / 4)
        for other in others:
            assert float(row["train/C_reg"]) == pytest.approx(float(other["train/C_reg"]), rel=1e-2)


def test_predict_refuses_a_loss_without_classes(folder, capsys):
    write_cifar10(folder / "files")
    regress = ["--model.loss", "half_squared_error", "--model.optimizer.lr", "1e-4"]
    assert main(["fit", "--config", "tiny.yaml", *regress]) == 0
    run = str(folder / "logs" / "tiny" / "version_0")
    assert main(["predict", "--run", run]) == 2
    assert "no classes" in capsys.readouterr().err


def test_the_built_in_images_take_the_place_of_missing_ones_only_where_asked(folder, capsys):
    small = ["--data.train_size", "40", "--data.val_size", "10", "--trainer.max_steps", "2"]
    assert main(["fit", "--config", "tiny.yaml", *small]) == 2
    refusal = capsys.readouterr().err
    assert "python -m sgdlit data cifar10 --root files" in refusal
    assert "--data.fallback shapes" in refusal
    assert not (folder / "logs").exists()

    small += ["--trainer.limit_test_batches", "1", "--trainer.limit_val_batches", "1"]
    assert main(["fit", "--config", "tiny.yaml", "--data.fallback", "shapes", *small]) == 0
    assert "warning: no CIFAR-10 in 'files'" in capsys.readouterr().err
    config = yaml.safe_load((folder / "logs" / "tiny_shapes" / "version_0" / "config.yaml").read_text())
    assert config["data"]["class_path"].endswith("Shapes")
    assert config["name"] == "tiny_shapes"


def test_seeds_are_separate(folder):
    write_cifar10(folder / "files")
    for more in ([], ["--init_seed", "5"], ["--data.order_seed", "5"], ["--seed_everything", "5"]):
        assert main(["fit", "--config", "tiny.yaml", "--trainer.max_steps", "1", *more]) == 0
    first = [float(rows_of(folder / "logs" / "tiny" / f"version_{k}")[0]["train/loss"]) for k in range(4)]
    assert len(set(first)) == 4


DATA = """
class Batches:
    def __len__(self):
        return 5

    def __iter__(self):
        x = torch.arange(32.0).view(8, 4).sin()
        return iter([(x, x.sum(1, keepdim=True))] * 5)


class Numbers(lightning.LightningDataModule):
    def train_dataloader(self):
        return Batches()
"""


def test_the_regularizer_in_a_users_own_module_is_one_line(folder, monkeypatch):
    """Against the closed form: for ½wᵀAw - bᵀw + c, one step is w - ε(g + λ/2·A g) with g = Aw - b."""
    snippet = re.search("```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)[1]
    (folder / "own_experiment.py").write_text(snippet + DATA)
    monkeypatch.syspath_prepend(str(folder))
    arguments = ["fit", "--model", "own_experiment.Mine", "--data", "own_experiment.Numbers"]
    assert (
        main([*arguments, "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--name", "own"]) == 0
    )
    checkpoint = torch.load(folder / "logs/own/version_0/checkpoints/resume.ckpt", weights_only=True)

    from sgdlit.foundations.philox import derive_key

    torch.manual_seed(derive_key(0, "initialisation").lo)
    w = torch.nn.Linear(4, 1, bias=False).weight.detach().double().flatten()
    x = torch.arange(32.0).view(8, 4).sin().double()
    a, b = x.T @ x / 8, x.T @ x.sum(1) / 8
    for _ in range(5):
        g = a @ w - b
        w = w - 0.1 * (g + 0.5 / 2 * a @ g)
    torch.testing.assert_close(
        checkpoint["state_dict"]["net.weight"].double().flatten(), w, atol=1e-6, rtol=0
    )
