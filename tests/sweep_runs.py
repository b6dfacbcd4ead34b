"""A sweep of six runs of 24 steps, called as a user calls it, and what its store holds."""

import json
from pathlib import Path

from sgdlit.cli.main import main

CONFIG = """
name: tiny
model:
  class_path: sgdlit.training.module.Training
  init_args:
    network: {class_path: sgdlit.models.diagonal.DiagonalLinear, init_args: {d: 8}}
    loss: half_squared_error
    optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.125}}
data:
  class_path: sgdlit.data.teachers.LinearTeacher
  init_args: {d: 8, nonzero: 2, shard_size: 8, steps: 24, test_size: 20}
trainer:
  max_epochs: 1
  accelerator: cpu
  enable_progress_bar: false
  log_every_n_steps: 6
  val_check_interval: 12
  check_val_every_n_epoch: null
sweep:
  seeds: 2
  grids:
    rate: [{model.optimizer.lr: [2^-3, 2^-1, 2^7]}]
  metric: test/loss
  statistic: median
  figures:
    loss: {x: model.optimizer.lr, log: xy, curves: [{grid: rate}]}
"""


def sweep(*arguments: str) -> int:
    return main(["sweep", "--config", "tiny.yaml", *arguments])


def runs(store: str = "sweeps/tiny") -> dict[str, dict]:
    lines = {path.stem: path.read_text() for path in Path(store, "runs").glob("*.json")}
    return {key: json.loads(line) for key, line in lines.items()}


def numbers(store: str = "sweeps/tiny") -> dict[str, tuple]:
    """What the runs of a store reached, without times."""
    return {
        key: (run["state"], run["step"], run["metrics"].get("test/loss"), run["metrics"].get("train/loss"))
        for key, run in runs(store).items()
    }
