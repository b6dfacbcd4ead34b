"""docs/cluster.md: two ranks that torchrun starts give the numbers of one process, and go on when stopped."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from docs_blocks import blocks
from fine_tuning import write_own_arrays
from fit_runs import PATIENCE, wait_until

import sgdlit
from sgdlit.cli.main import main

CONFIG = {
    "model": {
        "network": {"class_path": "MLP", "init_args": {"widths": [6, 8, 4]}},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
    },
    "data": {"class_path": "Arrays", "init_args": {"path": "own.npz", "batch_size": 20}},
    "trainer": {"max_steps": 30, "accelerator": "cpu", "enable_progress_bar": False, "logger": False},
}
(COMMAND,) = (block.text for block in blocks("cluster.md") if block.language == "sh")


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_own_arrays(tmp_path)
    Path("base.yaml").write_text(yaml.safe_dump(CONFIG))


def torchrun(*arguments: str) -> subprocess.Popen:
    """The command of the page, with other arguments after ``fit`` where there are any."""
    program, *options = shlex.split(COMMAND)
    assert program == "torchrun"
    if arguments:
        options = [*options[: options.index("fit") + 1], *arguments, *options[options.index("--name") + 2 :]]
    command = [sys.executable, "-m", "torch.distributed.run", *options]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def assert_close(one: sgdlit.Run, two: sgdlit.Run) -> None:
    for p, q in zip(one.network().parameters(), two.network().parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)
    assert two.column("test/loss")[1] == pytest.approx(one.column("test/loss")[1], abs=1e-6)


def test_two_ranks_are_one_process():
    assert torchrun().wait(PATIENCE) == 0
    assert main(["fit", "--config", "base.yaml", "--name", "one"]) == 0
    assert_close(sgdlit.load_run("logs/one/version_0"), sgdlit.load_run("logs/two/version_0"))


def test_a_stopped_run_goes_on():
    endless = ["--trainer.max_steps=100000000", "--trainer.check_val_every_n_epoch=100000000"]
    process = torchrun("--config", "base.yaml", "--name", "stopped", *endless)
    folder = Path("logs/stopped/version_0")
    wait_until((folder / "metrics.csv").exists, process)
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)
    status = sgdlit.load_run(folder).status
    assert status["state"] == "stopped"
    last = [f"--trainer.max_steps={status['step'] + 7}"]
    assert torchrun("--resume", str(folder), *last).wait(PATIENCE) == 0
    assert main(["fit", "--config", "base.yaml", "--name", "one", *endless, *last]) == 0
    one, two = sgdlit.load_run("logs/one/version_0"), sgdlit.load_run(folder)
    assert two.status["step"] == status["step"] + 7
    for p, q in zip(one.network().parameters(), two.network().parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-5)
