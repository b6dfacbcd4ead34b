"""``scripts/gpu_check.sh --dry-run``: every part of what is looked at on a GPU, at tiny sizes on a CPU."""

import os
import subprocess
import sys

from conftest import REPOSITORY


def test_every_part_passes_on_a_cpu(tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable, "GPU_WHEELS": str(tmp_path / "none")}
    report = tmp_path / "report.md"
    command = ["bash", "scripts/gpu_check.sh", "--dry-run", "--seconds", "3000", "--out", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY)
    assert done.returncode == 0, report.read_text() if report.exists() else done.stderr
    assert report.read_text().count("| pass |") == 11
