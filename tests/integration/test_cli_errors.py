"""A mistake in config or command line: one screen, the key, the value, what is allowed.

Every case goes through the command itself; none may leave a traceback behind, or anything on the disk.
"""

import gc
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from refused_commands import CIFAR10, contents, refused, write_folder

CALLBACK = "  callbacks: [{class_path: lightning.pytorch.callbacks.LearningRateMonitor, init_args: {%s}}]\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with tiny data and two configs."""
    monkeypatch.chdir(tmp_path)
    write_folder()
    return tmp_path


WRONG_KEYS = {
    "--model.network.wdth 3": ("model.network.wdth", "MLP", "widths"),
    "--trainer.max_step 5": ("trainer.max_step", "Trainer", "max_steps"),
    "--data.btch_size=5": ("data.btch_size", "CIFAR10", "batch_size"),
    "--model.optimizer.momentm 0.9": ("model.optimizer.momentm", "SGD", "momentum"),
    "--model.init_args.objectiv ExactPenalty": ("model.objectiv", "Training", "objective"),
}


@pytest.mark.parametrize("arguments", WRONG_KEYS)
def test_wrong_key_on_the_command_line(arguments, capsys):
    key, owner, meant = WRONG_KEYS[arguments]
    problem, allowed = refused(capsys, "--config", "cifar.yaml", *arguments.split()).split("allowed: ")
    assert problem.strip() == f"{key}: there is no such option of {owner}; did you mean {meant}?"
    assert meant in allowed.replace("\n", " ").split(", ")


WRONG_KEYS_IN_FILES = {
    ("trainer:", "trainr:"): "trainr: there is no such option; did you mean trainer?",
    ("name:", "nme:"): "nme: there is no such option; did you mean name?",
    (
        "max_steps",
        "max_step",
    ): "trainer.max_step: there is no such option of Trainer; did you mean max_steps?",
    ("widths", "width"): "model.network.width: there is no such option of MLP; did you mean widths?",
    ("lr: 0.01", "lr: 0.01, nestrov: true"): "model.optimizer.nestrov: there is no such option of SGD; "
    "did you mean nesterov?",
    (
        "    network",
        "    netwrk",
    ): "model.netwrk: there is no such option of Training; did you mean network?",
    ("  init_args:\n", "  init_arg:\n"): "model.init_arg: there is no such option of Training; "
    "did you mean init_args?",
}


@pytest.mark.parametrize("change", WRONG_KEYS_IN_FILES)
def test_wrong_key_in_a_file(change, capsys):
    Path("wrong.yaml").write_text(CIFAR10.replace(*change, 1))
    text = refused(capsys, "--config", "wrong.yaml")
    assert text.split("allowed: ")[0].strip() == WRONG_KEYS_IN_FILES[change]


def test_wrong_key_of_a_callback_in_a_list(capsys):
    config = CIFAR10[: CIFAR10.index("trainer:")] + "trainer:\n  max_steps: 4\n"
    Path("wrong.yaml").write_text(config + CALLBACK % "loging_interval: step")
    text = refused(capsys, "--config", "wrong.yaml")
    assert "trainer.callbacks.0.loging_interval" in text
    assert "did you mean logging_interval?" in text
    Path("wrong.yaml").write_text(config + CALLBACK % "logging_interval: stp")
    text = refused(capsys, "--config", "wrong.yaml")
    assert text == (
        "trainer.callbacks.0.logging_interval: 'stp' is not allowed; did you mean step? "
        "allowed: step, epoch, null"
    )


def test_an_option_that_belongs_elsewhere_is_found(capsys):
    assert "--lr: there is no such option; did you mean --model.optimizer.lr?" in refused(
        capsys, "--config", "cifar.yaml", "--lr", "1"
    )
    assert "did you mean --data.batch_size?" in refused(capsys, "--config", "cifar.yaml", "--batch_size", "1")
    assert "did you mean --measures?" in refused(capsys, "--config", "cifar.yaml", "--measurs=basic")


WRONG_VALUES = {
    "--data.last_batch shrt": "data.last_batch: 'shrt' is not allowed; did you mean short? "
    "allowed: error, short, drop",
    "--trainer.max_steps foo": "trainer.max_steps: 'foo' is not allowed; allowed: int",
    "--data.batch_size 2.5": "data.batch_size: '2.5' is not allowed; allowed: int",
    "--data.augment maybe": "data.augment: 'maybe' is not allowed; allowed: true, false",
    "--model.optimizer.lr abc": "model.optimizer.lr: 'abc' is not allowed; allowed: float, ",
    "--model.network.widths [3,a]": "model.network.widths: '[3,a]' is not allowed; allowed: list[int]",
    "--data.fallback shape": "data.fallback: 'shape' is not allowed; did you mean shapes? "
    "allowed: shapes, null",
    "--model.network WideResNeet": "model.network: 'WideResNeet' is not allowed; did you mean WideResNet?\n"
    "allowed: DeepLinear, MLP, SimpleCNN, WideResNet, the class path of another Module",
    "--data.order RandomReshufling": "data.order: 'RandomReshufling' is not allowed; "
    "did you mean RandomReshuffling?\nallowed: FixedList, ",
    "--model.network sgdlit.models.WideResnet": "model.network: 'sgdlit.models.WideResnet' is not a class "
    "that can be imported (module 'sgdlit.models' has no attribute 'WideResnet'); "
    "did you mean WideResNet?",
    "--model.network theirs.nets.Net": "model.network: 'theirs.nets.Net' is not a class that can be imported "
    "(No module named 'theirs')",
    "--model.network torch.nn.Linear": "model.network.in_features: missing, Linear needs it; allowed: int",
    "--data.order FixedList": "data.order.indices: missing, FixedList needs it; allowed: list[int], "
    "some text",
    "--model.scheduler StepLR": "model.scheduler.step_size: missing, StepLR needs it; allowed: int",
    "--model.objective.penalty_batch_size 5": "model.objective: missing, the class comes before its "
    "options; allowed: ExactPenalty, ",
    "--seed_everything -1": "seed_everything: -1 is not allowed; allowed: 0 to 4294967295",
    "--seed_everything true": "seed_everything: True is not allowed; allowed: 0 to 4294967295",
    "--init_seed -4": "init_seed: -4 is not allowed; allowed: 0 to 4294967295",
    "--init_seed 99999999999999999999999": "init_seed: 99999999999999999999999 is not allowed",
    '--ensemble [{"seed_everything":[0,-1]}]': "seed_everything: -1 is not allowed",
    '--ensemble [{"init_seed":[true]}]': "init_seed: True is not allowed",
    "--name ../elsewhere": "name: '../elsewhere' is not allowed; allowed: the name of a folder",
    "--trainer.log_every_n_steps 0": "trainer.log_every_n_steps: 0 is not allowed; allowed: 1 or more",
    "--trainer.accumulate_grad_batches 0": "trainer.accumulate_grad_batches: 0 is not allowed; allowed: 1 or",
    "--trainer.val_check_interval 0": "trainer.val_check_interval: 0 is not allowed; allowed: 1 or more",
    "--trainer.min_steps 50": "trainer.min_steps: 50 is more than trainer.max_steps: 4; allowed: up to 4",
    "--model.optimizer.lr .nan": "model.optimizer.lr: nan is not allowed; allowed: 0 or more",
    '--ensemble [{"seed_evrything":[0,1]}]': "ensemble: seed_evrything: there is no such key; did you mean "
    "seed_everything?",
    '--ensemble [{"model.optimizer.lr":["fast"]}]': "model.optimizer.lr: 'fast' is not allowed; allowed: fl",
    "--measures basic,FeatureShare": "measures: FeatureShare needs inputs; allowed: in a config, as one of",
    "--trainer.accelerator warp": "trainer.accelerator: warp is not allowed: You selected an invalid "
    "accelerator name: `accelerator='warp'`",
    "stray": "stray: not understood; options begin with --",
}


@pytest.mark.parametrize("arguments", WRONG_VALUES)
def test_wrong_value(arguments, capsys):
    assert refused(capsys, "--config", "cifar.yaml", *arguments.split()).startswith(WRONG_VALUES[arguments])


def test_a_missing_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)  # as where it is not installed
    text = refused(capsys, "--config", "cifar.yaml", "--model.optimizer", "pytorch_optimizer.Kron")
    assert text.startswith("model.optimizer: 'pytorch_optimizer.Kron' is not a class that can be imported")
    assert "install it with: pip install sgdlit[optimizers]" in text


def test_wrong_value_in_a_file(capsys):
    Path("wrong.yaml").write_text(CIFAR10.replace("lr: 0.01", "lr: high"))
    text = refused(capsys, "--config", "wrong.yaml")
    assert text.startswith("model.optimizer.lr: 'high' is not allowed; allowed: float")


IMPOSSIBLE = {
    "--model.reg_strength -1": ("model.reg_strength: -1", "from 0 upwards"),
    "--data.batch_size 200": ("data.batch_size: 200", "100 training examples", "allowed: 1 to 100"),
    "--data.batch_size 30": ("data.batch_size: 30 does not divide the 100", "data.last_batch: short", "drop"),
    "--data.train_size 101": ("data.train_size: 101", "100 examples"),
    "--trainer.accumulate_grad_batches 3": ("data.batch_size: 20", "accumulate_grad_batches: 3", "of 3"),
    "--trainer.accumulate_grad_batches 2 --model.reg_strength 0.1": (
        "trainer.accumulate_grad_batches: 2",
        "allowed: 1, or model.objective.penalty_batch_size",
    ),
    "--model.reg_strength 0.1 --model.objective ExactPenalty --model.objective.penalty_batch_size 7": (
        "model.objective.penalty_batch_size: 7",
        "allowed: 1, 2, 4, 5, 10, 20",
    ),
    "--model.optimizer.lr -1": ("model.optimizer.lr: -1.0 is not allowed", "allowed: 0 or more"),
    "--model.network.widths [784,10]": ("model.network: ", "(3, 32, 32)", "3072 and 784"),
    "--model.network.widths [3072,4]": ("model.loss, model.network: ", "label 9", "4 classes"),
    "--model.loss logistic": ("model.loss", "-1 and +1"),
    "--model.network WideResNet --model.network.depth 11": ("model.network.depth: 11", "10, 16, 22"),
    "--data.batch_size 1 --data.order FixedList --data.order.indices [500]": (
        "data.order.indices: example 500",
        "0 to 99",
    ),
    "--trainer.val_check_interval 100": ("trainer.val_check_interval: 100", "1 to 5"),
    "--trainer.limit_val_batches 0.5": (
        "trainer.limit_val_batches: 0.5 of 1 batches is less than one",
        "1 to 1",
    ),
    "--trainer.limit_train_batches 0.1": ("trainer.limit_train_batches: 0.1 of 5 batches", "0.2 to 1.0"),
    "--trainer.max_steps -5": ("max_steps", "-5"),
    "--trainer.callbacks Measures --trainer.callbacks.measures [RelativeError]": (
        "RelativeError: cannot look at MLP",
        "sgdlit.data.sensing.MatrixSensing",
    ),
    "--model.scheduler torch.optim.lr_scheduler.ReduceLROnPlateau": (
        "model.scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau",
        "lightning.pytorch.cli.ReduceLROnPlateau",
    ),
    "--model.transform PerClassNormalisation --model.transform.classes 3": (
        "model.transform.classes: 3",
        "allowed: 10",
    ),
    "--data null": ("data: missing", "configs/"),
    "--model.scheduler StepLR --model.scheduler.step_size 0": ("model.scheduler: StepLR cannot be advanced",),
    "--model.scheduler OneCycleLR --model.scheduler.max_lr 1 --model.scheduler.total_steps 3": (
        "OneCycleLR has a rate for 3 steps of 4",
        "model.scheduler.total_steps: 4 or more",
    ),
    "--model.optimizer SparseAdam": ("model.optimizer: SparseAdam needs sparse gradients",),
    "--model.optimizer.differentiable true": ("model.optimizer.differentiable: true", "allowed: false"),
    "--model.optimizer Adam --model.optimizer.foreach true --model.optimizer.fused true": (
        "model.optimizer, model.scheduler: `fused` and `foreach` cannot be",
    ),
    "--model.scheduler lightning.pytorch.cli.ReduceLROnPlateau --model.scheduler.monitor test/los": (
        "model.scheduler.monitor: 'test/los' is never logged; did you mean test/loss?",
    ),
    "--trainer.callbacks StopAtTarget --trainer.callbacks.at_least 1 --trainer.callbacks.metric test/acc": (
        "StopAtTarget.metric: 'test/acc' is never logged",
    ),
    "--trainer.callbacks Measures": ("Measures.measures: none; allowed: one or more of", "--measures NAMES"),
    "--trainer.callbacks LogSpacedValidation": ("needs trainer.check_val_every_n_epoch: null",),
    "--model.optimizer LBFGS": ("model.optimizer: LBFGS needs several losses per step",),
}


@pytest.mark.parametrize("arguments", IMPOSSIBLE)
def test_impossible_combination(arguments, capsys):
    text = refused(capsys, "--config", "cifar.yaml", *arguments.split())
    assert all(part in text for part in IMPOSSIBLE[arguments]), text


def test_one_callback_takes_all_measures(capsys):
    of = "{class_path: Measures, init_args: {measures: [%s]}}"
    Path("two.yaml").write_text(f"trainer: {{callbacks: [{of % 'Sharpness'}, {of % 'Trace'}]}}\n")
    text = refused(capsys, "--config", "cifar.yaml", "--config", "two.yaml")
    assert text == (
        "trainer.callbacks: Measures stands there 2 times; allowed: one Measures, with all measures"
    )


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("key", ["--data.dtype", "--ensemble"])
def test_examples_of_float64_need_a_network_of_float64(precision, key, capsys):
    given = [key, "float64" if key == "--data.dtype" else "[{data.dtype: [float32, float64]}]"]
    given += ["--data.steps", 4, "--trainer.precision", precision]
    text = refused(capsys, "--config", "teachers/mlp_classification", *given)
    assert text.startswith(f"data.dtype: float64 is not possible with trainer.precision: {precision}, in")
    assert "MLP does not take it" in text
    assert "allowed: float32, or trainer.precision: 64-true" in text
    assert ("member 1 of the ensemble: data.dtype: float64" in text) == (key == "--ensemble")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--data.batch_size 64", "a step sees more examples than 20"),
        ("--trainer.precision bf16-true", "the parameters are of half precision"),
    ],
)
def test_an_engine_that_cannot_take_the_steps_of_the_data(arguments, reason, capsys):
    sensing = ["--config", "matrix_sensing/simple", "--data.d", "8", "--model.network.net.widths", "[8,8,8]"]
    text = refused(capsys, *sensing, "--model.engine", "put_off", *arguments.split())
    assert text.startswith(f"model.engine: put_off is not possible: {reason}; allowed: auto")


def test_of_two_keys_with_one_name_that_with_the_value_is_named(capsys):
    own = "{widths: [32, 8, 5], steps: 9, batch_size: 4}"
    data = f"data: {{class_path: sgdlit.data.teachers.MLPTeacher, init_args: {own}}}\n"
    Path("teacher.yaml").write_text(CIFAR10[: CIFAR10.index("data:")] + data)
    wrong = ["--model.network.widths", "[32,-1,5]"]
    text = refused(capsys, "--config", "teacher.yaml", *wrong)
    assert text.startswith("model.network.widths: [32, -1, 5] is not allowed")


def test_a_short_name_of_two_classes(capsys, monkeypatch):
    other = types.ModuleType("another_library")
    other.SWATS = type("SWATS", (torch.optim.SGD,), {"__module__": other.__name__})
    monkeypatch.setitem(sys.modules, other.__name__, other)
    try:
        text = refused(capsys, "--config", "cifar.yaml", "--model.optimizer", "SWATS")
    finally:
        del other.SWATS
        gc.collect()  # torch's optimizers know their subclasses as long as there are any
    assert text.startswith("model.optimizer: 'SWATS' is the name of several classes")
    assert "sgdlit.algorithms.rules.swats.SWATS" in text


def test_sweep_and_figure_without_a_file(capsys):
    assert refused(capsys, command="sweep").startswith("--config: missing; give a sweep file (--config FILE)")
    assert "or the folder of a run (--run DIR)" in refused(capsys, command="figure")
    assert refused(capsys, "--sweep.seeds", "3", command="sweep").startswith("--config: missing")


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_without_a_config(command, capsys):
    text = refused(capsys, command=command)
    assert text.startswith("model: missing; give a config")
    assert "--config configs/" in text


def test_a_config_without_a_required_argument(capsys):
    Path("wrong.yaml").write_text("model: {class_path: Training}\n")
    text = refused(capsys, "--config", "wrong.yaml")
    assert text.startswith("model.network: missing, Training needs it\nallowed: DeepLinear, MLP, SimpleCNN, ")


def test_a_config_that_cannot_be_read(capsys):
    Path("folder.yaml").mkdir()
    Path("broken.yaml").write_text(CIFAR10 + "more: [1,\nbar: }\n")
    Path("text.yaml").write_text("hello")
    Path("bytes.yaml").write_bytes(bytes(range(128, 256)))
    nope = refused(capsys, "--config", "cifr.yaml")
    assert nope.startswith(
        "config: 'cifr.yaml' does not exist; did you mean cifar.yaml?\nallowed: a YAML file"
    )
    assert "'folder.yaml' is a folder\nallowed: a YAML" in refused(capsys, "--config", "folder.yaml")
    Path("folder.yaml/one.yaml").touch()
    assert "folder; allowed: folder.yaml/one.yaml" in refused(capsys, "--config", "folder.yaml")
    assert "one.yaml' holds nothing, not options" in refused(capsys, "--config", "folder.yaml/one.yaml")
    line = CIFAR10.count("\n") + 2
    assert f"'broken.yaml' is not valid YAML, line {line}" in refused(capsys, "--config", "broken.yaml")
    assert "'text.yaml' holds text, not options" in refused(capsys, "--config", "text.yaml")
    assert "'bytes.yaml' cannot be read: it is not text" in refused(capsys, "--config", "bytes.yaml")


@pytest.mark.parametrize("section", ["trainer", "checkpoints"])
@pytest.mark.parametrize("value", ["0.5", "-1", ".nan", "[]", "x"])
def test_a_section_that_is_a_value(section, value, capsys):
    Path("wrong.yaml").write_text(CIFAR10[: CIFAR10.index("trainer:")] + f"{section}: {value}\n")
    assert refused(capsys, "--config", "wrong.yaml").startswith(f"{section}: ")


def test_a_section_of_data_that_is_empty(capsys):
    at, end = (CIFAR10.index(section) for section in ("data:", "trainer:"))
    Path("wrong.yaml").write_text(f"{CIFAR10[:at]}data: {{}}\n{CIFAR10[end:]}")
    assert refused(capsys, "--config", "wrong.yaml").startswith("data: missing")


LENGTHS = ["max_steps", "max_epochs", "limit_train_batches", "check_val_every_n_epoch"]


@pytest.mark.parametrize("key", LENGTHS)
def test_a_run_without_a_step_and_a_cadence_of_nothing(key, capsys):
    text = refused(capsys, "--config", "cifar.yaml", f"--trainer.{key}=0")
    assert text.startswith(f"trainer.{key}: 0 is not allowed; allowed: 1 or more")


@pytest.mark.parametrize(
    "option", ["devices=x", "max_time=x", "num_nodes=0", "limit_val_batches=1.5", "limit_val_batches=-1"]
)
def test_an_option_of_the_trainer_that_it_cannot_be_is_named(option, capsys):
    key, _, value = option.partition("=")
    text = refused(capsys, "--config", "cifar.yaml", f"--trainer.{option}")
    assert text.startswith(f"trainer.{key}: {value} is not allowed")


def test_the_last_of_several_configs_is_blamed(capsys):
    Path("overlay.yaml").write_text("data: {init_args: {batch_size: many}}\n")
    text = refused(capsys, "--config", "cifar.yaml", "--config", "overlay.yaml")
    assert text == "data.batch_size: 'many' is not allowed; allowed: int"


def test_a_constructor_of_another_package_that_refuses_is_quoted_with_its_place(capsys, monkeypatch):
    Path("elsewhere.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self, size: int):\n"
        "        super().__init__()\n        raise ValueError(f'size {size} is odd')\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    text = refused(
        capsys, "--config", "cifar.yaml", "--model.network", "elsewhere.Net", "--model.network.size", "3"
    )
    assert text.startswith("model.network: size 3 is odd\n(ValueError at ")
    assert "elsewhere.py:5" in text


def test_missing_data_names_the_two_ways_out(capsys):
    text = refused(capsys, "--config", "cifar.yaml", "--data.root", "nowhere")
    assert "nowhere: no such folder" in text
    assert "python -m sgdlit data cifar10 --root nowhere" in text
    assert "--data.fallback shapes" in text


@pytest.mark.parametrize("logs", ["a_file", "a_file/below"])
def test_logs_that_cannot_be_written(logs, capsys):
    Path("a_file").write_text("kept")
    text = refused(capsys, "--config", "cifar.yaml", "--logs", logs)
    assert f"logs: {logs!r} cannot be written (Not a directory" in text
    assert "--logs DIR" in text


def test_resuming_what_is_no_run(capsys):
    assert "--resume: 'data' is not the folder of a run" in refused(capsys, "--resume", "data")
    assert "--run: 'nowhere' is not the folder of a run" in refused(
        capsys, "--run", "nowhere", command="test"
    )
    assert "--resume: the folder of a run is missing" in refused(capsys, "--resume")


def test_the_command_itself_exits_with_2_and_says_no_more(folder):
    command = [sys.executable, "-m", "sgdlit", "fit", "--config", "cifar.yaml", "--data.last_batch", "shrt"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    before = contents(folder)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "sgdlit: error: data.last_batch: 'shrt' is not allowed; did you mean short? "
        "allowed: error, short, drop\n"
    )
    assert contents(folder) == before
