"""G4, G5: steps to a target fall as 1/B while batches are small, and hardly any more once they are large.

Averaged iterates need fewer at small B. Through ``sweep``, on a teacher, the rate tuned for each batch size.
"""

import csv
import math

import pytest
import yaml

from sgdlit.cli.main import main

SIZES, BUDGETS = [1, 4, 128, 512], [2600, 700, 150, 150]
RATES = [(-6, -4), (-4, -2), (-3, -1), (-3, -1)]
CONFIG = """
name: targets
model:
  class_path: sgdlit.training.module.Training
  init_args:
    network: {class_path: sgdlit.models.MLP, init_args: {widths: [16, 32, 1]}}
    loss: half_squared_error
    optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}
data:
  class_path: sgdlit.data.teachers.MLPTeacher
  init_args: {widths: [16, 8, 1], label_noise: 0.3, teacher_seed: 0, steps: 4000, test_size: 500}
trainer:
  max_epochs: 1
  accelerator: cpu
  enable_progress_bar: false
  log_every_n_steps: 4000
  check_val_every_n_epoch: null
  callbacks:
    - class_path: sgdlit.training.log_spaced_validation.LogSpacedValidation
      init_args: {first: 12, per_doubling: 8}
    - class_path: sgdlit.training.stop_at_target.StopAtTarget
      init_args: {metric: test/loss, at_most: 0.12}
    - class_path: sgdlit.training.iterate_average.IterateAverage
      init_args: {decay: 0}
sweep:
  seeds: 3
  metric: {name: test/loss, when: {first_step_at_or_below: 0.12}}
  statistic: median
  figures:
    steps:
      x: data.batch_size
      log: xy
      tuned: [model.optimizer.lr, trainer.callbacks.IterateAverage.decay]
      curves: [{grid: "sgd_*", label: SGD}, {grid: "ema_*", label: averaged}]
      lines: [{name: perfect scaling, power: -1}]
"""


def grid(size, budget, rates, decay):
    """One batch size: a budget of steps, powers of two as rates, and the memory of the average."""
    together = {
        "data.batch_size": size,
        "data.steps": budget,
        "trainer.callbacks.IterateAverage.decay": decay,
    }
    return [together, {"model.optimizer.lr": {"powers_of": 2, "from": rates[0], "to": rates[1]}}]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[tuple[str, int], dict[str, str]]:
    """The drawn points, by curve and batch size."""
    folder = tmp_path_factory.mktemp("targets")
    settings = list(zip(SIZES, BUDGETS, RATES, strict=True))
    config = yaml.safe_load(CONFIG)
    config["sweep"]["grids"] = {f"sgd_{s[0]}": grid(*s, decay=0) for s in settings}
    for s, decay in ((settings[1], 0.97), (settings[-1], 0.5)):
        config["sweep"]["grids"][f"ema_{s[0]}"] = grid(*s, decay=decay)
    (folder / "targets.yaml").write_text(yaml.safe_dump(config))
    place = ["--config", str(folder / "targets.yaml"), "--store", str(folder / "store")]
    assert main(["sweep", *place]) == 0
    assert main(["figure", *place]) == 0
    with (folder / "store" / "figures" / "steps.csv").open(newline="") as file:
        return {(row["curve"], int(row["x"])): row for row in csv.DictReader(file)}


def steps(found, curve, size):
    return float(found[curve, size]["center"])


def exponent(found, small, large):
    """−d log T / d log B between two batch sizes: 1 where scaling is perfect, 0 where B does not matter."""
    return math.log(steps(found, "SGD", small) / steps(found, "SGD", large)) / math.log(large / small)


def test_scaling_is_nearly_perfect_at_small_batches_and_ends_at_large_ones(found):
    assert exponent(found, 1, 4) == pytest.approx(1, abs=0.25)
    assert exponent(found, 128, 512) == pytest.approx(0, abs=0.15)
    assert 0.1 < exponent(found, 4, 128) < 0.7


def test_the_best_rate_grows_with_the_batch_and_then_no_more(found):
    """G7: proportional to B in the noise regime, then capped by the curvature."""
    best = [float(found["SGD", size]["best model.optimizer.lr"]) for size in SIZES]
    assert best[0] < best[1]
    assert best[2] == best[3]
    assert best[2] < 32 * best[1]


def test_averaged_iterates_need_fewer_steps_at_small_batches_only(found):
    assert steps(found, "averaged", 4) < 0.85 * steps(found, "SGD", 4)
    assert steps(found, "averaged", 512) > 0.9 * steps(found, "SGD", 512)
