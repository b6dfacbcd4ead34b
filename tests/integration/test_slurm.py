"""SLURM: job arrays of workers, and the sbatch script of a DDP run, against stand-ins for its programs."""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from conftest import REPOSITORY
from fit_runs import PATIENCE, wait_until
from lightning.pytorch.plugins.environments import SLURMEnvironment
from sweep_runs import CONFIG, numbers, runs, sweep

from sgdlit.cli.main import main

TESTS = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(CONFIG)
    return tmp_path


FAKE = """#!{python}
import os, pathlib, subprocess, sys
here = pathlib.Path({here!r})
name = pathlib.Path(sys.argv[0]).name
with (here / f"{{name}}.log").open("a") as log:
    print(*sys.argv[1:], file=log)
if name == "sbatch":
    (here / "job.sh").write_text(pathlib.Path(sys.argv[-1]).read_text())
    print("Submitted batch job", 76 + len((here / "sbatch.log").read_text().splitlines()))
if name == "srun":
    command = sys.argv[1:]
    while command[0].startswith("--"):
        command = command[1:] if "=" in command[0] or command[0] == "--unbuffered" else command[2:]
    (here / "task.pid").write_text(str(os.getpid()))
    os.execvp(command[0], command)
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Path:
    """Stand-ins for sbatch, srun and scontrol, which note how they were called."""
    here = tmp_path / "cluster"
    here.mkdir()
    for name in ("sbatch", "srun", "scontrol"):
        (here / name).write_text(FAKE.format(python=sys.executable, here=str(here)))
        (here / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}{os.pathsep}{os.environ['PATH']}")
    return here


SLURM = {"JOB_NUM_NODES": "1", "NTASKS": "1", "NTASKS_PER_NODE": "1", "NODEID": "0", "PROCID": "0"}
SLURM |= {"LOCALID": "0", "JOB_NAME": "sgdlit", "NODELIST": "127.0.0.1"}


def start_job(script: Path, job: int, *arguments: str, **variables: str) -> subprocess.Popen:
    """A job script as SLURM would start it, on one node with one task."""
    slurm = {f"SLURM_{name}": value for name, value in {**SLURM, "JOB_ID": f"{job}"}.items()}
    return subprocess.Popen(["bash", str(script), *arguments], env={**os.environ, **slurm, **variables})


def test_an_array_of_workers_is_submitted_once(cluster, capsys):
    assert (
        sweep("--launcher", "slurm", "--jobs", "3", "--slurm", "timeout_min=60", "slurm_partition=gpu") == 0
    )
    assert "submitted 3 workers in job 77; logs in sweeps/tiny/slurm" in capsys.readouterr().err
    job = (cluster / "job.sh").read_text()
    for line in ("--array=0-2%3", "--partition=gpu", "--time=60", "--signal=USR2@90"):
        assert f"#SBATCH {line}" in job
    assert len((cluster / "sbatch.log").read_text().splitlines()) == 1


def test_a_worker_at_its_time_limit_is_requeued_and_goes_on(cluster, monkeypatch):
    """SLURM's signal comes at step 50, from a callback, so that the run is never over before."""
    long = ["--sweep.seeds=1", "--sweep.grids.rate=[{model.optimizer.lr: 2^-4}]", "--data.steps=100"]
    long += ["--checkpoints.every_n_steps=20"]
    limit = ["--trainer.callbacks=fit_runs.SignalAt", "--trainer.callbacks.steps=[50]"]
    limit += [f"--trainer.callbacks.number={int(signal.SIGUSR2)}", "--trainer.callbacks.mark=signalled"]
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert sweep("--launcher", "slurm", *long, *limit) == 0
    start_job(cluster / "job.sh", 77).wait(PATIENCE)
    assert (cluster / "scontrol.log").read_text() == "requeue 77\n"
    assert runs() == {}
    assert list(Path("sweeps/tiny/work").rglob("resume.ckpt"))
    assert start_job(cluster / "job.sh", 77).wait(PATIENCE) == 0
    ((state, step, *reached),) = numbers().values()
    assert (state, step) == ("finished", 100)
    monkeypatch.setenv(
        "PATH", os.environ["PATH"].partition(os.pathsep)[2]
    )  # Lightning asks why srun is unused
    assert sweep(*long, "--store", "straight") == 0
    ((*_, test, train),) = numbers("straight").values()
    assert reached == [test, train]


def test_what_submitit_refuses(cluster, capsys):
    assert sweep("--launcher", "slurm", "--slurm", "bogus=1") == 2
    assert "--launcher slurm: " in (said := capsys.readouterr().err)
    assert "bogus" in said
    assert sweep("--launcher", "slurm", "--slurm", "gpu") == 2
    assert "--slurm: 'gpu' is not allowed; allowed: KEY=VALUE" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it outlives its parent
def test_submitits_processes_on_this_machine(capsys):
    one = ["--sweep.seeds", "1"]
    assert sweep("--launcher", "local", "--jobs", "1", *one) == 0
    assert "submitted 1 workers in job " in capsys.readouterr().err
    wait_until(lambda: len(runs()) == 3)
    assert sweep(*one) == 0
    assert "3 runs, 3 stored, 0 to run" in capsys.readouterr().err


def test_in_a_slurm_job_a_signal_stops_a_run_and_lightning_requeues_nothing(cluster, monkeypatch):
    for name, value in {**SLURM, "JOB_ID": "5"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert SLURMEnvironment.detect()
    Path("fit.yaml").write_text(CONFIG[: CONFIG.index("sweep:")])
    stop = ["--trainer.callbacks=fit_runs.SignalAt", "--trainer.callbacks={steps: [9], number: 10}"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*srun.*")
        code = main(["fit", "--config", "fit.yaml", "--trainer.devices=1", *stop])
    assert code == 128 + signal.SIGUSR1
    assert (Path("logs/tiny/version_0/checkpoints") / "resume.ckpt").exists()
    assert not list(Path().rglob("hpc_ckpt*"))
    assert not (cluster / "scontrol.log").exists()


def test_the_script_of_a_run_over_nodes_requeues_it_and_it_goes_on(cluster, tmp_path):
    """With a stand-in for the program, which stops at its first call as a signal stops it."""
    program = tmp_path / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    script = REPOSITORY / "scripts" / "fit_ddp.sbatch"

    def job() -> int:
        return start_job(script, 5, "fit.yaml", "--data.steps", "3", PYTHON=str(program)).wait(
            timeout=PATIENCE
        )

    assert job() == 128 + signal.SIGUSR1
    assert (cluster / "scontrol.log").read_text() == "requeue 5\n"
    assert job() == 0
    assert (cluster / "scontrol.log").read_text() == "requeue 5\n"
    common = "--trainer.accelerator gpu --trainer.strategy ddp --trainer.num_nodes 1 --trainer.devices 1"
    assert Path("calls").read_text().splitlines() == [
        f"-m sgdlit fit --config fit.yaml --name job_5 --logs logs {common} --data.steps 3",
        f"-m sgdlit fit --resume logs/job_5/version_0 {common} --data.steps 3",
    ]


PROGRAM = """#!/usr/bin/env bash
echo "$@" >> calls
[ -f logs/job_5/version_0/checkpoints/resume.ckpt ] && exit 0
mkdir -p logs/job_5/version_0/checkpoints && touch logs/job_5/version_0/checkpoints/resume.ckpt
exit 138
"""
