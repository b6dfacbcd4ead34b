"""Axes: the points that a grid means, and configs with the values of a point, checked like any config."""

import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import Namespace

from sgdlit.cli.run_cli import RunCLI
from sgdlit.config import axes
from sgdlit.config.axes import expand, number
from sgdlit.foundations.errors import UserError
from sgdlit.training.joining import axis_options


def apply(config: Namespace, point: dict) -> Namespace:
    return axes.apply(config, point, axis_options())


def values(key, points):
    return [point[key] for point in points]


def test_entries_are_crossed_and_the_last_runs_fastest():
    points = expand([{"seed_everything": [0, 1]}, {"lr": [0.1, 0.2, 0.3]}])
    assert [tuple(point.values()) for point in points] == [
        (0, 0.1), (0, 0.2), (0, 0.3), (1, 0.1), (1, 0.2), (1, 0.3),
    ]  # fmt: skip


def test_the_keys_of_one_entry_go_together():
    points = expand([{"lr": {"powers_of": 2, "from": -9, "to": -3}, "n": [1, 1, 2, 2, 4, 4, 8]}, {"a": 5}])
    assert values("lr", points) == [2.0**k for k in range(-9, -2)]
    assert values("n", points) == [1, 1, 2, 2, 4, 4, 8]
    assert set(values("a", points)) == {5}


@given(st.lists(st.integers(1, 4), min_size=0, max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_grid_has_the_product_of_its_lengths_each_point_once(lengths):
    points = expand([{f"k{i}": list(range(n))} for i, n in enumerate(lengths)])
    assert len(points) == math.prod(lengths)
    assert len({tuple(point.items()) for point in points}) == len(points)


def test_numbers_and_ranges():
    several = "[0, 2^-6, 2^4, -2^2, 1e-3, 1.5^2, 7, true, relu, [2^3, 1e2]]"
    points = expand(yaml.safe_load(f"[{{a: {several}}}, {{b: {{log_from: 1e-3, log_to: 1, count: 4}}}}]"))
    assert values("a", points)[::4] == [0, 2**-6, 16, -4, 1e-3, 2.25, 7, True, "relu", [8, 100.0]]
    assert values("b", points[:4]) == [0.001, 0.01, 0.1, 1.0]
    assert values("c", expand([{"c": {"powers_of": 2, "from": 0, "to": 5, "step": 2}}])) == [1, 4, 16]
    assert all(isinstance(v, int) for v in values("c", expand([{"c": {"powers_of": 2, "from": 0, "to": 5}}])))
    assert values("d", expand([{"d": {"powers_of": 10, "from": -1, "to": 1}}])) == [0.1, 1, 10]
    assert expand([{"model.init_args.optimizer.init_args.lr": "2^-6"}]) == [{"model.optimizer.lr": 2**-6}]
    halves = values("e", expand([{"e": {"powers_of": 2, "from": -2, "to": -0.5, "step": 0.5}}]))
    assert halves == [0.25, number("2^-1.5"), 0.5, number("2^-0.5")]
    assert halves[1] == pytest.approx(2**-1.5, rel=1e-10)
    assert number("2^-6 ") == 0.015625
    assert number("2^x") == "2^x"


def test_a_class_with_arguments_is_a_value():
    ramp = {"class_path": "LinearRampStrength", "init_args": {"start": 0}}
    assert values("s", expand([{"s": [0.1, ramp]}])) == [0.1, ramp]
    assert values("s", expand([{"s": ramp}])) == [ramp]


REFUSED = {
    "{lr: [1]}": "axes: {'lr': [1]} is not allowed; allowed: a list of entries",
    "[lr]": "axes.0: 'lr' is not allowed; allowed: KEY: VALUES",
    "[{}]": "axes.0: {} is not allowed",
    "[{lr: []}]": "axes.0: lr: an axis without values; allowed: a list",
    "[{a: [1]}, {lr: [1, 2], n: [1, 2, 3]}]": "axes.1: lr has 2, n has 3 values",
    "[{lr: [1]}, {n: [1], lr: [2]}]": "axes: lr has an entry already",
    "[{lr: {power_of: 2, from: 0, to: 1}}]": "did you mean powers_of by power_of?",
    "[{lr: {powers_of: 2, from: 0}}]": "axes.0: lr: {'powers_of': 2, 'from': 0} is not allowed",
    "[{lr: {powers_of: 2, from: 0, to: -3}}]": "from <= to",
    "[{lr: {powers_of: 2, from: 0, to: 3, step: 0}}]": "step above 0",
    "[{lr: {powers_of: two, from: 0, to: 3}}]": "powers_of above 0",
    "[{lr: {log_from: 0, log_to: 1, count: 3}}]": "log_from and log_to above 0",
    "[{lr: {log_from: 1, log_to: 2, count: 1}}]": "count 2 or more",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_axis_is_refused(text):
    with pytest.raises(UserError) as refused:
        expand(yaml.safe_load(text))
    assert REFUSED[text] in str(refused.value)


def test_unequal_lengths_show_how_to_cross():
    with pytest.raises(UserError, match=r"(?s)every key an entry of its own:\n  - lr: ...\n  - n: ...$"):
        expand([{"lr": [1, 2], "n": [1, 2, 3], "a": 3}])


class Parsed(Exception):
    """Raised to stop once the config is read."""


class ParsingCLI(RunCLI):
    def before_instantiate_classes(self) -> None:
        raise Parsed(self.config.fit)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Namespace:
    path = tmp_path_factory.mktemp("axes") / "config.yaml"
    path.write_text(
        """
        model:
          class_path: sgdlit.training.module.Training
          init_args:
            network: {class_path: sgdlit.models.MLP, init_args: {widths: [784, 8, 10]}}
            optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.01, weight_decay: 0.5}}
        data:
          class_path: sgdlit.data.finite.fashion_mnist.FashionMNIST
          init_args: {root: data, batch_size: 16}
        trainer: {max_epochs: 3}
        """
    )
    with pytest.raises(Parsed) as parsed:
        ParsingCLI("fit", ["--config", str(path)])
    return parsed.value.args[0]


def test_values_are_set_in_a_copy_and_become_what_the_parameter_is(config):
    point = {"seed_everything": 3, "model.optimizer.lr": 1, "data.repeats": 4, "trainer.max_steps": 100}
    changed = apply(config, point)
    assert changed.seed_everything == 3
    assert changed.model.init_args.optimizer.init_args.as_dict() == {
        **config.model.init_args.optimizer.init_args.as_dict(),
        "lr": 1.0,
    }
    assert isinstance(changed.model.init_args.optimizer.init_args.lr, float)
    assert changed.data.init_args.repeats == 4
    assert changed.trainer.max_steps == 100
    assert config.seed_everything == 0
    assert config.model.init_args.optimizer.init_args.lr == 0.01
    assert apply(config, {}) == config


def test_the_config_of_a_point_is_what_the_command_line_makes_of_it(config):
    arguments = {"model.optimizer.lr": 0.5, "model.reg_strength": 0.25, "data.order": "SingleShuffle",
                 "model.network.widths": [784, 16, 10], "data.val_size": 16}  # fmt: skip
    line = [f"--{key}={value}" for key, value in arguments.items()]
    with pytest.raises(Parsed) as parsed:
        ParsingCLI("fit", ["--config", str(config.config[0]), *line])
    assert apply(config, arguments) == parsed.value.args[0]


def test_classes_by_name_keep_the_arguments_that_they_share(config):
    changed = apply(config, {"model.optimizer.lr": 0.5, "model.optimizer": "torch.optim.Adam"})
    adam = changed.model.init_args.optimizer
    assert adam.class_path == "torch.optim.Adam"
    assert (adam.init_args.lr, adam.init_args.weight_decay) == (0.5, 0.5)
    assert "momentum" not in adam.init_args
    ramp = {"class_path": "LinearRampStrength", "init_args": {"start": 0, "end": 1, "begin": 0, "steps": 4}}
    changed = apply(config, {"model.reg_strength": ramp, "model.reg_strength.end": 2})
    assert changed.model.init_args.reg_strength.init_args.end == 2.0


CALLBACKS = [
    {
        "class_path": "sgdlit.training.stop_at_target.StopAtTarget",
        "init_args": {"metric": "m", "at_least": 1},
    },
    {"class_path": "sgdlit.training.iterate_average.IterateAverage"},
]


def test_a_callback_goes_by_the_name_of_its_class(config):
    """Also one that the same point puts there; the others, and the config, stay as they are."""
    averaging = {"trainer.callbacks": CALLBACKS, "trainer.callbacks.IterateAverage.decay": 0.5}
    changed = apply(config, averaging)
    other = apply(changed, {"trainer.callbacks.StopAtTarget.at_least": "2"})
    assert [c.init_args.as_dict() for c in other.trainer.callbacks] == [
        {"metric": "m", "at_least": 2.0, "at_most": None},
        {"decay": 0.5, "polynomial": None},
    ]
    assert changed.trainer.callbacks[0].init_args.at_least == 1
    for key, words in {
        "LogSpaced.first": "trainer.callbacks.LogSpaced: there is no LogSpaced here; allowed: one of StopAtT",
        "IterateAverage.deca": "trainer.callbacks.1.deca: there is no such option of IterateAverage; did you",
        "IterateAverage": "trainer.callbacks.IterateAverage: not one value; name an option of it",
    }.items():
        with pytest.raises(UserError) as refused:
            apply(changed, {f"trainer.callbacks.{key}": 1})
        assert str(refused.value).startswith(words)
    twice = {"trainer.callbacks": [CALLBACKS[1], CALLBACKS[1]], "trainer.callbacks.IterateAverage.decay": 0.5}
    with pytest.raises(UserError, match="2 of IterateAverage here"):
        apply(config, twice)


WRONG = {
    ("model.optimizer.lrr", 1): "model.optimizer.lrr: there is no such option of SGD; did you mean lr?",
    ("lr", 1): "lr: there is no such option; did you mean model.optimizer.lr?",
    ("trainer.max_epoch", 1): "trainer.max_epoch: there is no such option of Trainer; did you mean max_ep",
    ("name", "x"): "name: there is no such option; allowed: checkpoints, data, init_seed, model, seed_",
    ("model.optimizer.lr", "high"): "model.optimizer.lr: 'high' is not allowed; allowed: float",
    ("data.batch_size", 2.5): "data.batch_size: 2.5 is not allowed; allowed: int",
    ("data.last_batch", "shrt"): "data.last_batch: 'shrt' is not allowed; did you mean short?",
    ("model.network.widths", 784): "model.network.widths: 784 is not allowed; allowed: list[int]",
    ("data.order", "FixedList"): "data.order: FixedList needs indices; write the value as {class_path: ",
    ("model.network", "Resnet"): "model.network: 'Resnet' is not allowed",
    ("model.objective.penalty_batch_size", 4): "model.objective.penalty_batch_size: model.objective is null "
    "in this config, so it has no penalty_batch_size; name a class for model.objective first",
    ("model.reg_strength.end", 4): "model.reg_strength.end: model.reg_strength is 0.0 in this config",
    ("data.batch_size.x", 4): "data.batch_size.x: data.batch_size is 16 in this config, so it has no x",
    ("trainer.callbacks.IterateAverage.decay", 0): "trainer.callbacks.IterateAverage.decay: "
    "trainer.callbacks is null in this config, so it has no IterateAverage",
    ("trainer", 4): "trainer: not one value; name an option of it, such as trainer.",
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong[0]}={wrong[1]}")
def test_keys_and_values_that_the_config_does_not_take(config, wrong):
    with pytest.raises(UserError) as refused:
        apply(config, dict([wrong]))
    assert str(refused.value).startswith(WRONG[wrong])
