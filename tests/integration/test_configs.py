"""Every config in the repository parses, builds, and takes a step."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from docs_blocks import runs_said
from official_formats import write_cifar10, write_fashion_mnist

from sgdlit.cli.main import COMMANDS, main
from sgdlit.config.options import find_class, parameters
from sgdlit.config.shipped import find, require
from sgdlit.sweeps import options
from sgdlit.training.module import Training

CONFIGS = sorted((REPOSITORY / "configs").rglob("*.yaml"))
RUNS = [path for path in CONFIGS if {"model", "sweep"} & yaml.safe_load(path.read_text()).keys() == {"model"}]
SWEEPS = [path for path in CONFIGS if {"model", "sweep"} <= yaml.safe_load(path.read_text()).keys()]
ONE_STEP = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "1", "--trainer.accelerator", "cpu"]
ONE_STEP += ["--data.eval_batch_size", "20"]


WORLDS = "--ensemble=[{data.shard_size: [256, null], data.evaluate_train: [true, false]}]"
FEWER = ["--data.train_size=2048"]  # than the official files hold
PICTURES = ["--data.train_size=64", "--data.test_size=20"]
TWO_SEEDS = ["--ensemble", "[{seed_everything: [0, 1]}]"]
NARROW = ["--data.batch_size=16", "--data.d=64", "--model.network.net.width=64"]
SMALLER = {
    "deep_bootstrap/shapes.yaml": [WORLDS],
    "list/gsm.yaml": FEWER,
    "list/large_batches.yaml": FEWER,
    "list/gaussian_clone.yaml": ["--data.batch_size=8"],
    "quick.yaml": PICTURES,
    "reference.yaml": ["--data.train_size=640"],
    "edge_of_stability/adam.yaml": TWO_SEEDS,
    "edge_of_stability/sgd.yaml": TWO_SEEDS,
    "noisy_quadratic/noise_scale.yaml": TWO_SEEDS,
    "paper/f6a_fashion_mlp.yaml": ["--model.network.widths=[784,256,256,256,10]"],
    "matrix_sensing/transformer.yaml": NARROW,
    "list/pretraining.yaml": ["--data.test_size=32"],
}
"""What makes a config's step smaller: fewer examples or members, or narrower layers; 78 000 images of shapes
are drawn otherwise."""


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory) -> Path:
    """Files in the official formats, with room for validation sets of 5 000 and minibatches of 8 192."""
    root = tmp_path_factory.mktemp("data")
    write_cifar10(root, per_file=2640, test=20)
    write_fashion_mnist(root, train=13216, test=20, gz=False)
    return root


def run(configs: list[Path], root: Path, *more: str) -> int:
    data = yaml.safe_load(configs[0].read_text())["data"]
    own = data.get("init_args", {})
    place = ["--data.root", str(root)] if "root" in own else []
    if "original" in own:
        place = ["--data.original.root", str(root), "--data.test_size", "20"]
    arguments = [part for path in configs for part in ("--config", str(path))]
    return main(["fit", *arguments, *ONE_STEP, *place, *more])


@pytest.mark.parametrize("config", RUNS, ids=lambda path: str(path.relative_to(REPOSITORY / "configs")))
def test_config_takes_a_step(config, tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for package in ("dog", "pytorch_optimizer"):  # of the extra "optimizers"
        if f"class_path: {package}." in config.read_text():
            pytest.importorskip(package)
    smaller = SMALLER.get(config.relative_to(REPOSITORY / "configs").as_posix(), [])
    assert run([config], tiny_data, *smaller) == 0
    folder = next(tmp_path.glob("logs/*/version_0"))
    assert (folder / "checkpoints" / "resume.ckpt").is_file()
    assert (folder / "metrics.csv").is_file()


def test_quick_is_an_overlay_for_the_main_job(tmp_path, monkeypatch, capsys):
    """It ends in a picture, and with commands that there are."""
    monkeypatch.chdir(tmp_path)
    configs = [REPOSITORY / "configs" / name for name in ("wrn_modified_loss.yaml", "quick.yaml")]
    arguments = [part for path in configs for part in ("--config", str(path))]
    assert main(["fit", *arguments, *ONE_STEP, *PICTURES]) == 0
    picture = Path("logs/quick/version_0/run_curves.png")
    assert picture.is_file()
    closing = capsys.readouterr().err.partition(f"drawn: {picture}\n")[2]
    assert closing == yaml.safe_load(configs[1].read_text())["closing"]
    commands = re.findall(r"python -m sgdlit (\w+)(?: --config (\S+))?", closing)
    assert [command for command, _ in commands] == ["fit", "sweep", "reproduce"]
    assert {command for command, _ in commands} <= COMMANDS.keys()
    assert all(require(config).is_file() for _, config in commands if config)


def test_the_saved_config_repeats_the_run(tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = REPOSITORY / "configs" / "fashion_mlp.yaml"
    assert run([config], tiny_data, "--trainer.log_every_n_steps", "1") == 0
    first = tmp_path / "logs" / "fashion_mlp" / "version_0"
    assert main(["fit", "--config", str(first / "config.yaml")]) == 0
    second = tmp_path / "logs" / "fashion_mlp" / "version_1"
    assert (first / "metrics.csv").read_text() == (second / "metrics.csv").read_text()


def test_the_reference_config_names_every_field():
    config = yaml.safe_load((REPOSITORY / "configs" / "reference.yaml").read_text())
    model, data = config["model"], config["data"]
    assert set(model) == set(parameters(Training))
    for part in (model["network"], model["objective"], data):
        cls = find_class(part["class_path"], [])
        assert set(part["init_args"]) == set(parameters(cls)), part["class_path"]


@pytest.mark.parametrize("config", SWEEPS, ids=lambda path: path.stem)
def test_sweep_file_can_be_planned(config, tiny_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "pytorch_optimizer." in config.read_text():
        pytest.importorskip("pytorch_optimizer")
    data = yaml.safe_load(config.read_text())["data"]
    place = ["--data.root", str(tiny_data)] if "root" in data.get("init_args", {}) else []
    assert main(["sweep", "--config", str(config), "--dry-run", *place]) == 0
    planned = capsys.readouterr().out
    assert " runs: 0 stored" in planned
    said = [count for name, count in runs_said().items() if find(name) == config]
    assert all(f"\n{count} runs: 0 stored" in planned for count in said)


def test_the_sweep_reference_names_every_option():
    section = yaml.safe_load((REPOSITORY / "configs" / "sweeps" / "reference.yaml").read_text())["sweep"]
    figures = section["figures"]
    panels = [panel for figure in figures.values() for panel in (figure, *figure.get("panels", []))]
    curves = [curve for panel in panels for curve in panel.get("curves", [])]
    lines = [line for panel in panels for line in panel.get("lines", [])]
    parts = {
        options.SweepOptions: [section],
        options.Metric: [section["metric"]],
        options.Statistic: [section["statistic"], figures["pairs"]["statistic"]],
        options.Figure: panels,
        options.Curve: curves,
        options.Line: lines,
    }
    left_out = {"value", "x", "metric", "sweep"}  # within when; a curve's and a line's, in comments
    for cls, given in parts.items():
        named = {name for part in given for name in part}
        missing = {field.name for field in dataclasses.fields(cls)} - named
        assert missing <= left_out, cls
