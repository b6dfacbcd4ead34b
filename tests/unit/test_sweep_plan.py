"""The plan of a sweep: which cells there are, which configs share a key, and configs that repeat a cell."""

import copy
from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace

from sgdlit.cli.without_running import parse_fit
from sgdlit.foundations.errors import UserError
from sgdlit.sweeps.options import read_options
from sgdlit.sweeps.plan import groups, key_of, make_plan, read_plan, write_plan
from sgdlit.sweeps.store import Store
from sgdlit.sweeps.sweep_file import SweepFile
from sgdlit.sweeps.worker import config_text

CONFIG = """
name: tiny
seed_everything: 3
model:
  class_path: sgdlit.training.module.Training
  init_args:
    network: {class_path: sgdlit.models.MLP, init_args: {widths: [784, 8, 10]}}
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
data: {class_path: sgdlit.data.finite.fashion_mnist.FashionMNIST, init_args: {root: data, batch_size: 16}}
trainer: {max_epochs: 3, accelerator: cpu}
"""
SECTION = """
seeds: 2
metric: test/loss
grids:
  rate: [{model.optimizer.lr: [0.5, 0.25]}]
  both: [{model.optimizer.lr: [0.5, 0.125]}, {data.batch_size: [16, 32]}]
  as_it_is: []
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "config.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def config(path):
    return parse_fit(["--config", str(path)])


def plan_of(config, section: str = SECTION):
    return make_plan(config, read_options(yaml.safe_load(section), config.seed_everything), "inputs")


def test_grids_times_seeds_and_what_grids_share_is_run_once(config):
    plan = plan_of(config)
    assert {name: len(cells) for name, cells in plan.grids.items()} == {"rate": 4, "both": 8, "as_it_is": 2}
    assert len(plan.cells) == 12  # lr 0.5 at batch size 16 belongs to two grids
    assert [cell.seed for cell in plan.grids["rate"]] == [0, 1, 0, 1]
    cell = plan.grids["both"][-1]
    assert cell.point == {"model.optimizer.lr": 0.125, "data.batch_size": 32}
    assert cell.config.seed_everything == 1
    assert cell.config.data.init_args.batch_size == 32
    assert plan.grids["rate"][0].config.data.init_args.batch_size == 16
    assert plan.grids["rate"][0].key.rpartition("-")[2] == "0"
    assert plan.grids["rate"][0].key[:-2] == plan.grids["rate"][1].key[:-2]


def test_values_of_a_cell_come_from_its_point_its_seed_or_the_config(config):
    plan = plan_of(config)
    cell = plan.grids["rate"][1]
    assert plan.value(cell, "model.optimizer.lr") == 0.5
    assert plan.value(cell, "data.batch_size") == 16
    assert plan.value(cell, "seed_everything") == 1
    with pytest.raises(
        UserError, match=r"'optimizer.lr' is no key of the config; did you mean model.optimizer.lr"
    ):
        plan.value(cell, "optimizer.lr")


GROUPED = """
seeds: 3
metric: test/loss
together: 4
grids:
  rate: [{model.optimizer.lr: [0.5, 0.25]}]
  strength: [{model.reg_strength: [0, 0.5, 1]}]
  size: [{data.batch_size: [16, 32]}, {data.seed: [1, 2]}]
  epochs: [{trainer.max_epochs: [1, 2]}]
"""


def test_cells_of_equal_shape_are_grouped_whatever_is_stored(config):
    plan = plan_of(config, GROUPED)
    found = groups(plan)
    assert sorted(cell.key for group in found for cell in group) == sorted(cell.key for cell in plan.cells)
    together = [[(*cell.point.values(), cell.seed) for cell in group] for group in found]
    assert together == [
        [(0.5, 0), (0.5, 1), (0.5, 2), (0.25, 0)],
        [(0.25, 1), (0.25, 2)],
        [(0, 0), (0, 1), (0, 2)],  # without a regularizer, which costs three times as much
        [(0.5, 0), (0.5, 1), (0.5, 2), (1, 0)],
        [(1, 1), (1, 2)],
        [(16, 1, 0), (16, 1, 1), (16, 1, 2), (16, 2, 0)],
        [(16, 2, 1), (16, 2, 2)],
        [(32, 1, 0), (32, 1, 1), (32, 1, 2), (32, 2, 0)],
        [(32, 2, 1), (32, 2, 2)],
        [(1, 0), (1, 1), (1, 2)],
        [(2, 0), (2, 1), (2, 2)],
    ]
    assert all(len(group) == 1 for group in groups(plan_of(config, GROUPED.replace("4", "1", 1))))


def reporting(name: str) -> list[Namespace]:
    return [Namespace(class_path=f"lightning.pytorch.callbacks.{name}", init_args=Namespace())]


SAME = {
    "name": "other", "logs": "elsewhere", "checkpoints.every_n_steps": 5, "trainer.log_every_n_steps": 7,
    "trainer.logger": False, "trainer.enable_progress_bar": False, "trainer.devices": 2,
    "trainer.accelerator": "gpu", "trainer.strategy": "ddp",
    "trainer.callbacks": reporting("LearningRateMonitor"),
    "model.init_args.optimizer.init_args.betas": [0.9, 0.999], "model.init_args.engine": "loop",
    "model.init_args.steps_per_call": 1, "data.init_args.eval_batch_size": 7, "data.init_args.repeats": 1.0,
    "data.init_args.a_new_option": None, "data.init_args.root": "elsewhere",
}  # fmt: skip
OTHER = {
    "model.init_args.optimizer.init_args.lr": 0.02, "model.init_args.network.init_args.widths": [784, 9, 10],
    "model.init_args.reg_strength": 0.1, "data.init_args.batch_size": 8, "data.init_args.seed": 4,
    "data.init_args.order": Namespace(class_path="sgdlit.data.orders.SingleShuffle"), "init_seed": 3,
    "trainer.max_epochs": 4, "trainer.precision": "bf16-mixed", "trainer.gradient_clip_val": 1,
    "trainer.val_check_interval": 0.5, "trainer.callbacks": reporting("EarlyStopping"),
    "data.init_args.a_new_option": 0,
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [*SAME.items(), *OTHER.items()])
def test_the_key_changes_with_what_decides_the_numbers_and_with_nothing_else(config, key, value):
    changed = copy.deepcopy(config)
    changed[key] = value
    same = key in SAME and SAME[key] == value
    assert (key_of(changed) == key_of(config)) == same


def test_the_seed_stands_beside_the_hash(config):
    assert key_of(config).endswith("-3")
    changed = copy.deepcopy(config)
    changed.seed_everything = 4
    assert key_of(changed) == key_of(config)[:-1] + "4"


def test_the_config_beside_a_result_is_that_of_its_cell(config, tmp_path):
    for cell in plan_of(config).cells[::4]:
        path = tmp_path / f"{cell.key}.yaml"
        path.write_text(config_text(cell))
        again = parse_fit(["--config", str(path)])
        assert key_of(again) == cell.key
        assert again.name == f"tiny_{cell.key}"
        assert again.model == cell.config.model, "a tuple or a number came back as something else"


def test_a_plan_on_the_disk_is_that_of_the_same_inputs(config, tmp_path):
    plan, store = plan_of(config), Store(tmp_path / "store", create=True)
    assert read_plan(store, "inputs") is None
    write_plan(plan, store)
    assert read_plan(store, "others") is None
    again = read_plan(store, "inputs")
    assert [(c.key, c.point, c.seed) for c in again.cells] == [(c.key, c.point, c.seed) for c in plan.cells]
    assert again.value(again.grids["rate"][0], "data.batch_size") == 16
    (store.folder / "plan.json").write_text("{")
    assert read_plan(store, "inputs") is None


def test_inputs_are_what_decides_the_runs(path, tmp_path):
    sweep = tmp_path / "sweep.yaml"
    text = CONFIG + "sweep:\n" + "".join(f"  {line}\n" for line in SECTION.strip().splitlines())
    sweep.write_text(text)
    inputs = SweepFile(["--config", str(sweep)], parse_fit).inputs
    same = ["  metric: train/loss", "  statistic: median", "  figures: {}"]
    for line in same:
        sweep.write_text(text.replace("  metric: test/loss", line))
        assert SweepFile(["--config", str(sweep)], parse_fit).inputs == inputs
    sweep.write_text(text.replace("seeds: 2", "seeds: 3"))
    assert SweepFile(["--config", str(sweep)], parse_fit).inputs != inputs
    sweep.write_text(text.replace("max_epochs: 3", "max_epochs: 4"))
    assert SweepFile(["--config", str(sweep)], parse_fit).inputs != inputs
    sweep.write_text(text)
    assert SweepFile(["--config", str(sweep), "--data.batch_size", "8"], parse_fit).inputs != inputs
    assert SweepFile(["--config", str(sweep), "--sweep.seeds", "2"], parse_fit).inputs == inputs


def test_files_compose_and_the_command_line_has_the_last_word(path, tmp_path):
    (tmp_path / "one.yaml").write_text(f"sweep: {{{', '.join(['seeds: 2', 'grids: {a: [{x: 1}], b: []}'])}}}")
    (tmp_path / "two.yaml").write_text("sweep: {seeds: 5, grids: {a: [{x: 2}]}, statistic: {level: 0.9}}")
    files = [f"--config={tmp_path / name}.yaml" for name in ("one", "two")]
    own = ["--sweep.grids.b", "[{y: 3}]", "--data.batch_size", "4", "--sweep.statistic.best=2"]
    file = SweepFile([*files, *own], parse_fit)
    assert file.fit_arguments == [*files, "--data.batch_size", "4"]
    assert file.section == {
        "seeds": 5,
        "grids": {"a": [{"x": 2}], "b": [{"y": 3}]},
        "statistic": {"level": 0.9, "best": 2},
    }


def test_an_ensemble_of_its_own_is_refused(path):
    config = parse_fit(["--config", str(path), "--ensemble", "[{seed_everything: [0, 1]}]"])
    with pytest.raises(
        UserError, match=r"^ensemble: a sweep makes its own ensembles; write its axes as a grid"
    ):
        plan_of(config)


WRONG = {
    "{a: [{model.optimizer.lrr: [1]}]}": ": model.optimizer.lrr: there is no such option of Ad",
    "{a: [{model.optimizer.lr: []}]}": ".0: model.optimizer.lr: an axis without values",
    "{a: [{data.batch_size: [16, many]}]}": ": data.batch_size: 'many' is not allowed; allowed: int",
    "{a: [{seed_everything: [1, 2]}]}": ": seed_everything is the same axis for all grids: w",
    "{a: [{trainer.devices: [1, 2]}]}": ": trainer.devices: 2, trainer.num_nodes: 1: a sweep ",
    "{a: [{trainer.fast_dev_run: true}]}": ": trainer.fast_dev_run: a run that keeps nothing h",
    "{a: [{data.root: [data, other]}]}": ": data.root: data and other are one run, since data.root is ",
    "{a: [{model.optimizer.lr: [1, 2]}, {model.engine: [loop, auto]}]}": ": model.engine: loop and auto are ",
    "{a: [{trainer.log_every_n_steps: 0}]}": ": trainer.log_every_n_steps: 0 is not allowed; allowed: ",
}


@pytest.mark.parametrize("grids", WRONG)
def test_what_cannot_be_planned(config, grids):
    with pytest.raises(UserError) as refused:
        plan_of(config, f"{{metric: x, grids: {grids}}}")
    assert str(refused.value).startswith("sweep.grids.a" + WRONG[grids])
