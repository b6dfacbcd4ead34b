"""A small run on own arrays, from which others start."""

from pathlib import Path

import numpy as np

import sgdlit

BASE = {
    "model": "sgdlit.training.module.Training",
    "model.network": "MLP",
    "model.network.widths": [6, 8, 4],
    "model.optimizer.lr": 0.1,
    "data": "Arrays",
    "data.path": "own.npz",
    "data.batch_size": 15,
    "trainer.max_steps": 6,
    "trainer.log_every_n_steps": 2,
    "trainer.enable_progress_bar": False,
    "trainer.logger": False,
}
FROZEN = {
    "model.groups": {
        "first": {"match": "layers.1", "frozen": True},
        "biases": {"match": "*.bias", "decay": 0.0},
    }
}
HEAD = {"model.network.widths": [6, 8, 3], "data.classes": [0, 1, 2]}
FIRST = "logs/first/version_0"


def write_own_arrays(folder: Path) -> None:
    draws = np.random.default_rng(0)
    x, y = draws.normal(size=(60, 6)), np.arange(60) % 4
    sgdlit.save_arrays(folder / "own.npz", x, y, x, y)
