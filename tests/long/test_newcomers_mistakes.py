"""What a newcomer gets wrong in own data, groups, schedules, metrics: a sentence names key and way out.

Every case goes through the command; none leaves anything on the disk. A sample of them runs with each change.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from fine_tuning import BASE, FIRST, write_own_arrays

import sgdlit
from sgdlit.cli.main import main

CONFIG = """
model:
  network: {class_path: MLP, init_args: {widths: [6, 8, 4]}}
  optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}
data: {class_path: Arrays, init_args: {path: own.npz, batch_size: 15}}
trainer: {max_steps: 6, enable_progress_bar: false, logger: false}
"""
OPTIONS = {
    "--data.path wide.npz": "data.path: 'wide.npz' has no array 'inputs'; there are: x, y",
    "--data.path onw.npz": "data.path: 'onw.npz' does not exist; did you mean own.npz?",
    "--data.path own.csv": "data.path: 'own.csv' cannot be read: it is no .npz file, or damaged",
    "--data.path real.npz": "model.loss, model.network: targets: torch.float32 of shape (1,) are no prob",
    "--data.path no_test.npz": "data.path: 'no_test.npz' has no test_inputs; allowed: data.test_size",
    "--data.classes [0,1,7]": "data.classes: there is no class 7; allowed: 0 to 3",
    "--data.class_weights [1,0.5]": "data.class_weights: 2 for 4 classes; allowed: one for each",
    "--data.label_errors SymetricErrors": "data.label_errors: 'SymetricErrors' is not allowed; did you mean",
    "--data.label_errors SymmetricErrors": "data.label_errors.share: missing, SymmetricErrors needs it",
    "--data.label_errors SymmetricErrors --data.label_errors.share 20": "data.label_errors.share: 20.0 is no",
    "--data.label_errors SymmetricErrors --data.label_errors.share 0.2": "data.label_errors.classes: 10 is m",
    "--data.corruption.std 0.1": "data.corruption: missing, the class comes before its options; allowed: Gau",
    "--init_from logs/first": f"config.yaml is missing; allowed: {FIRST}",
    "--init_from logs/frist/version_0": f"is missing; allowed: {FIRST}",
    f"--init_from {FIRST} --init_fresh head": "init_fresh: 'head' matches no parameter; allowed: names",
    "--init_form x": "--init_form: there is no such option; did you mean --init_from?",
    "--model.groups.a.match layers.1": "model.groups.a.match: not understood on a command line; allowed: --m",
    "--model.scheduler SequentialLR": "allowed: Phases, such as",
    "xor": "xor: not understood; did you mean --config xor?",
    "--model.network MPL": "model.network: 'MPL' is not allowed; did you mean MLP?",
    "--model.optimizer.lr -0.1": "model.optimizer.lr: -0.1 is not allowed; allowed: 0 or more",
    "--model.optimizer Adam --model.optimizer.momentum 0.9": "model.optimizer.momentum: there is no such opt",
    "--model.scheduler StepLR": "model.scheduler.step_size: missing, StepLR needs it; allowed: int",
    "--data.order Reshuffl": "data.order: 'Reshuffl' is not allowed; did you mean RandomReshuffling?",
    "--trainer.max_epochs -3": "trainer.max_epochs: -3 is not allowed; allowed: 1 or more, or -1 for no lim",
    "--checkpoints.every_n_step 3": "checkpoints.every_n_step: there is no such option of Checkpoints; did y",
    "--figure runcurves": "figure: there is no picture 'runcurves' of a run; did you mean run_curves?",
    "--measures sharpnes": "measures: there is none called 'sharpnes'; did you mean Sharpness?",
    "--measures basic --measures.budget 0.1": "measures.budget: there is no such option of measures, a value",
    "--model.metrics MulticlassAccuracy": "model.metrics: 'MulticlassAccuracy' is not allowed; allowed: NAME",
}
OVERLAYS = {
    "model: {groups: {a: {match: layers.0, frozen: true}}}": "model.groups.a.match: 'layers.0' matches no pa",
    "model: {groups: {a: {mach: layers.1}}}": "model.groups.a.mach: there is no such option of ParameterGrou",
    "model: {groups: {a: {match: layers.1, rate: fast}}}": "model.groups.a.rate: 'fast' is not allowed",
    "model: {groups: {match: layers.1, frozen: true}}": "model.groups.match: 'layers.1' is not allowed; allo",
    "model: {groups: [{match: layers.1}]}": "is not allowed; allowed: NAME: ParameterGroup, for any names, n",
    "model: {groups: {a: {match: '*', frozen: true}}}": "model.groups: all parameters are frozen; allowed: a",
    "model: {scheduler: {class_path: Phases, init_args: {phases: [{shape: linear, end: 1, steps: 600}]}}}": (
        "model.scheduler.phases: 600 steps of phases in a run of 6; allowed: fewer, or shares"
    ),
    "model: {scheduler: {class_path: Phases, init_args: {phases: [{shape: warmup, end: 1, steps: 3}]}}}": (
        "model.scheduler.phases.0.shape: 'warmup' is not allowed; allowed: constant, linear"
    ),
    "model: {scheduler: {class_path: Phases, init_args: {phases: {shape: linear, end: 1, steps: 3}}}}": (
        "model.scheduler.phases: a mapping is not allowed, but a list of them"
    ),
    "model: {metrics: {acc: MulticlassAccuracy}}": "model.metrics.acc: Argument `num_classes`",
    "model: {metrics: {acc: {class_path: MulticlasAccuracy, init_args: {num_classes: 4}}}}": (
        "model.metrics.acc: 'MulticlasAccuracy' is not allowed; did you mean MulticlassAccuracy?"
    ),
    "model: {metrics: {acc: {class_path: MulticlassAccuracy, init_args: {num_classes: 5}}}}": (
        "model.metrics.acc: MulticlassAccuracy cannot take outputs of shape [16, 4]"
    ),
    "model: {metrics: {acc: {class_path: torchmetrics.Accuracy, init_args: {num_classes: 4}}}}": (
        "model.metrics.acc.task: missing, Accuracy needs it; allowed: binary, multiclass, multilabel"
    ),
    "model: {metrics: {accuracy: {class_path: MulticlassAccuracy, init_args: {num_classes: 4}}}}": (
        "model.metrics.accuracy: not possible as a name"
    ),
    "model: {netwrk: MLP}": "model.netwrk: there is no such option of Training; did you mean network?",
}
ALONE = {
    "model: {network: MLP}": "model.network.widths: missing, MLP needs it; allowed: list[int]",
    "model: {network: {class_path: MLP, init_args: {widths: [6, 4]}}}\ndata: {path: own.npz}": (
        "data: missing, the class comes before its options"
    ),
    "trainer: {max_steps: 3}": "model: missing; give a config that names model and data",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_own_arrays(tmp_path)
    sgdlit.fit(BASE, name="first")
    x, y = np.ones((60, 6)), np.arange(60) % 4
    np.savez("wide.npz", x=x, y=y)
    np.savez("real.npz", inputs=x, targets=y * 1.0, test_inputs=x, test_targets=y * 1.0)
    np.savez("no_test.npz", inputs=x, targets=y)
    np.savetxt("own.csv", x)
    Path("base.yaml").write_text(CONFIG)
    return tmp_path


def refused(capsys, folder, *arguments: str) -> str:
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    assert main(["fit", *arguments]) == 2
    text = capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before
    assert "Traceback" not in text
    assert "Namespace(" not in text
    assert len(text.splitlines()) <= 15
    return text


@pytest.mark.parametrize("options", OPTIONS)
def test_on_the_command_line(options, capsys, folder):
    assert OPTIONS[options] in refused(capsys, folder, "--config", "base.yaml", *options.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(capsys, folder):
    text = refused(capsys, folder, "--config", "base.yaml", "--trainer.accelerator", "gpu")
    assert "trainer.accelerator: 'gpu' is not possible, torch sees no GPU here; allowed: auto, cpu" in text


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_in_a_file_on_top_of_another(overlay, capsys, folder):
    Path("overlay.yaml").write_text(overlay)
    assert OVERLAYS[overlay] in refused(capsys, folder, "--config", "base.yaml", "--config", "overlay.yaml")


@pytest.mark.parametrize("config", ALONE)
def test_in_a_config(config, capsys, folder):
    Path("alone.yaml").write_text(config)
    assert ALONE[config] in refused(capsys, folder, "--config", "alone.yaml")
