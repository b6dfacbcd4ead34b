"""Whole commands on a GPU: mixed precision, two workers on one device, and what the machine is."""

import csv
import math
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from benchmarks.common import DEVICE
from benchmarks.limits import limits

ROOT = Path(__file__).parent.parent.parent
SHAPES = """
name: tiny
seed_everything: 0
model:
  class_path: sgdlit.training.module.Training
  init_args:
    network: {class_path: sgdlit.models.WideResNet, init_args: {depth: 10, width: 1}}
    reg_strength: 0.0
    optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.05}}
data:
  class_path: sgdlit.data.finite.shapes.Shapes
  init_args: {train_size: 640, val_size: 64, test_size: 64, batch_size: 32}
trainer: {max_steps: 40, log_every_n_steps: 5, devices: 1}
"""
SWEEP = """
sweep:
  seeds: 2
  together: 1
  grids: {rate: [{model.optimizer.lr: [0.02, 0.05]}]}
  metric: {name: test/loss, when: final, label: test loss}
"""


def machine(small: bool) -> None:
    """Versions, and what the device does in a copy and in a matrix product."""
    import lightning
    import numpy
    import scipy

    print(f"python {platform.python_version()}, torch {torch.__version__}, lightning {lightning.__version__}")
    print(f"numpy {numpy.__version__}, scipy {scipy.__version__}, {platform.platform()}")
    if DEVICE.type == "cuda":
        memory = torch.cuda.get_device_properties(DEVICE).total_memory / 2**30
        print(f"{torch.cuda.get_device_name()}, {memory:.0f} GiB, CUDA {torch.version.cuda}")
        print(f"cuDNN {torch.backends.cudnn.version()}, {torch.cuda.get_device_capability()}")
    else:
        print("no CUDA device: this is a dry run on the CPU")
    found = limits(small)
    print(f"copy {found.bytes_per_second / 1e9:.0f} GB/s, float32 product "
          f"{found.flops_per_second / 1e12:.2f} TFLOP/s")  # fmt: skip


def mixed_precision(small: bool) -> None:
    """bf16-mixed follows float32: the first loss to two digits, and it falls."""
    steps = 5 if small else 40
    with tempfile.TemporaryDirectory() as folder:
        losses = {}
        for precision in ("32-true", "bf16-mixed"):
            _sgdlit(folder, "fit", "--name", precision, "--trainer.max_steps", str(steps),
                    "--trainer.precision", precision)  # fmt: skip
            rows = _rows(Path(folder, "logs", precision, "version_0", "metrics.csv"))
            losses[precision] = [float(row["train/loss"]) for row in rows if row.get("train/loss")]
    for precision, found in losses.items():
        print(f"{precision}: loss {found[0]:.4f} at step 0, {found[-1]:.4f} at the last that was logged")
    first, mixed = (found[0] for found in losses.values())
    assert all(map(math.isfinite, losses["bf16-mixed"]))
    assert 0 < abs(mixed / first - 1) < 0.02, "bf16 is to differ from float32, and by less than 2 %"
    assert small or losses["bf16-mixed"][-1] < mixed


def two_processes(small: bool) -> None:
    """Two workers on one device store what one stores, up to rounding."""
    steps = 5 if small else 40
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for jobs in ("1", "2"):
            store = f"store_{jobs}"
            _sgdlit(folder, "sweep", "--store", store, "--jobs", jobs, "--trainer.max_steps", str(steps))
            tables.append(_rows(Path(folder, store, "table.csv")))
    for one, two in zip(*tables, strict=True):
        print(
            f"lr {one['model.optimizer.lr']}: test loss {one['center']} by one worker, {two['center']} by two"
        )
        assert math.isclose(float(one["center"]), float(two["center"]), rel_tol=1e-4)


def _sgdlit(folder: str, command: str, *arguments: str) -> None:
    """Run a command of the package on the tiny config."""
    config = Path(folder, f"{command}.yaml")
    config.write_text(SHAPES + (SWEEP if command == "sweep" else ""), encoding="utf-8")
    accelerator = "gpu" if DEVICE.type == "cuda" else "cpu"
    line = [sys.executable, "-m", "sgdlit", command, "--config", str(config), *arguments,
            "--trainer.accelerator", accelerator]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(line[2:4])} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}"
        )


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
