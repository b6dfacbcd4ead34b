"""What is looked at on a GPU: a failing part does not stop the others, and parts run at tiny sizes on a CPU.

``tests/long/test_gpu_dry_run.py`` goes through all parts.
"""

import os
import subprocess
import sys

import pytest
import torch
from cases import STREAMS
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

import gpu_check
from gpu_check import Part


def test_a_part_that_fails_or_hangs_is_reported_and_the_others_follow(tmp_path, monkeypatch, capsys):
    parts = {
        "good": Part("what holds", 60, command=("-c", "print('seven')")),
        "bad": Part("what does not", 60, command=("-c", "print('so far'); assert False, 'no'")),
        "slow": Part(
            "what hangs", 1, command=("-c", "import time; print('begun', flush=True); time.sleep(9)")
        ),
        "last": Part("what comes last", 60, command=("-c", "print('the end')")),
    }
    monkeypatch.setattr(gpu_check, "PARTS", parts)
    out = tmp_path / "report.md"
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(out)])
    assert gpu_check.main() == 1
    text = out.read_text()
    for name, state, printed in (
        ("good", "pass", "seven"), ("bad", "FAIL", "AssertionError: no"), ("slow", "TIME", "begun"),
        ("last", "pass", "the end"),
    ):  # fmt: skip
        assert f"| {name} | {parts[name].about} | {state} |" in text
        assert printed in text.partition(f"## {name}: {state}")[2].partition("## ")[0]


def test_without_time_the_later_parts_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "PARTS", {"one": Part("a part", 60, command=("-c", "print(1)"))})
    out = tmp_path / "report.md"
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(out), "--seconds", "1"])
    assert gpu_check.main() == 1
    assert "| one | a part | left out | 0 |" in out.read_text()


def test_a_machine_without_a_gpu_is_told_so():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SystemExit, match="no CUDA device is to be seen; --dry-run goes without one"):
        gpu_check._run_here(gpu_check.PARTS["graphs"], small=False)


def test_every_part_is_there():
    for part in gpu_check.PARTS.values():
        assert bool(part.function) != bool(part.command and part.small)
    assert sum(part.seconds for part in gpu_check.PARTS.values()) < 40 * 60  # at the most; usually far less
    assert gpu_check.WHOLE < 25 * 60


def test_a_part_holds_on_a_cpu_at_tiny_sizes(capsys):
    gpu_check._run_here(gpu_check.PARTS["streams"], small=True)
    assert "kinds of data" in capsys.readouterr().out


def test_the_command_takes_options_and_needs_no_wheels(tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable, "GPU_WHEELS": str(tmp_path)}
    command = ["bash", str(REPOSITORY / "scripts" / "gpu_check.sh"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert "--dry-run" in done.stdout, done.stderr


@pytest.mark.parametrize("name", STREAMS)
def test_streams_draw_on_the_device_of_the_index(name):
    """Without a GPU: tensors without values, which refuse to mix with those of the CPU as a GPU's do."""
    with pytest.raises(RuntimeError):
        torch.zeros(2, device="meta") + torch.zeros(2)
    drawn = STREAMS[name]().draw("train", torch.arange(8, device="meta"))
    assert {tensor.device.type for tensor in drawn} == {"meta"}
