"""The paper's figures at quick scale, as far as they are about the diagonal linear network and a narrow MLP.

The files are those of ``configs/sweeps/quick`` with fewer seeds and points; their results are read from the
table that ``sweep`` writes.
"""

import csv
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from sgdlit.cli.main import main

QUICK = Path(__file__).parents[2] / "configs/sweeps/quick"


def table(folder, file, grids, *arguments, metric=None):
    """What a file's sweep finds on other grids: grid -> {(rate, strength or n): center, None if diverged}."""
    config = yaml.safe_load((QUICK / file).read_text())
    config["sweep"] |= {"grids": grids, "figures": {}} | ({"metric": metric} if metric else {})
    part = folder / "part.yaml"
    part.write_text(yaml.safe_dump(config))
    assert main(["sweep", "--config", str(part), "--store", str(folder / "store"), *arguments]) == 0
    found = {grid: {} for grid in grids}
    with (folder / "store/table.csv").open() as rows:
        for row in csv.DictReader(rows):
            keys = [key for entry in grids[row["grid"]] for key in entry if ".lr" in key or "strength" in key]
            keys += [key for entry in grids[row["grid"]] for key in entry if key == "data.repeats"]
            at = tuple(float(row[key]) for key in keys)
            found[row["grid"]][at] = float(row["center"]) if row["center"] else None
    return found


def rates(*exponents):
    return {"model.optimizer.lr": [f"2^{k}" for k in exponents]}


@pytest.fixture(scope="module")
def diagonal(tmp_path_factory):
    """The diagonal linear network: 1250 epochs, two seeds, which differ in the order alone."""
    grids = {
        "rate": [rates(-6, -5, -4, -3)],
        "strength": [{"model.reg_strength": ["2^-6", "2^-5", "2^-4", "2^-3", "2^-2"]}],
        "rate_2": [rates(-5, -4, -3, -2) | {"data.batch_size": 2, "data.steps": 50000}],
        "rate_4": [rates(-4, -3, -2, -1) | {"data.batch_size": 4, "data.steps": 25000}],
        "steps": [
            {"data.batch_size": 4, "data.steps": 25000},
            {"data.repeats": [1, 2, 4, 8]},
            rates(-4, -3, -2, -1.5, -1, -0.5),
        ],
    }
    return table(tmp_path_factory.mktemp("diagonal"), "diagonal.yaml", grids, "--sweep.seeds", "2")


def test_f1b_the_test_loss_falls_with_the_rate_and_with_the_strength(diagonal):
    rate, strength = diagonal["rate"], diagonal["strength"]
    for losses in (list(rate.values()), list(strength.values())):
        assert all(later < 0.98 * earlier for earlier, later in pairwise(losses))
    assert rate[2**-3,] < 0.6 * rate[2**-6,]
    assert strength[2**-2,] < 0.5 * rate[2**-6,]


def test_f1b_a_strength_does_what_an_equal_rate_does(diagonal):
    assert diagonal["strength"][2**-4,] == pytest.approx(diagonal["rate"][2**-4,], rel=0.05)


def test_f3_curves_of_small_batches_are_one_over_rate_by_batch_size(diagonal):
    """At equal ε/B within 15 % up to B = 4; at equal ε the same batch sizes are much further apart."""
    one, two, four = diagonal["rate"], diagonal["rate_2"], diagonal["rate_4"]
    for k in (-6, -5, -4, -3):
        assert two[2.0 ** (k + 1),] == pytest.approx(one[2.0**k,], rel=0.08)
        assert four[2.0 ** (k + 2),] == pytest.approx(one[2.0**k,], rel=0.15)
    assert four[2**-3,] > 1.5 * one[2**-3,]


def test_f4_curves_of_n_steps_are_one_over_the_bare_rate(diagonal):
    steps = diagonal["steps"]
    for lr in (2**-4, 2**-3, 2**-2):
        for n in (2, 4, 8):
            assert steps[lr, n] == pytest.approx(steps[lr, 1], rel=0.06)
    assert steps[2**-2, 8] < 0.9 * steps[2**-4, 8]  # the curve is not flat, so effective rates would tell


def test_f4_the_largest_stable_rate_falls_with_n_and_so_the_best_loss_rises(diagonal):
    best = {}
    for n in (1, 2, 4, 8):
        losses = {lr: loss for (lr, m), loss in diagonal["steps"].items() if m == n and loss is not None}
        best[n] = min((loss, lr) for lr, loss in losses.items())
    assert best[1][1] > best[2][1] >= best[4][1] >= best[8][1]
    assert best[1][0] < 0.85 * min(best[n][0] for n in (2, 4, 8))


def test_f1c_c_reg_at_the_end_falls_with_the_rate_and_with_the_strength(real_data, tmp_path):
    """An MLP 784–16–10 on 256 real images, two seeds."""
    grids = {
        "rate": [rates(-7, -5)],
        "strength": [{"model.reg_strength": ["2^-4"]}],
    }
    smaller = ["--model.network.widths", "[784,16,10]", "--data.train_size", "256"]
    smaller += ["--trainer.check_val_every_n_epoch", "100", "--sweep.seeds", "2"]
    found = table(
        tmp_path,
        "fashion_mlp.yaml",
        grids,
        *smaller,
        *("--data.root", str(real_data / "fashion-mnist")),
        metric={"name": "train_set/C_reg", "when": "final"},
    )
    for falling in (found["rate"], {(0.0,): found["rate"][2**-7,]} | found["strength"]):
        values = list(falling.values())
        assert all(later < 0.9 * earlier for earlier, later in pairwise(values))
