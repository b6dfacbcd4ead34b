"""Configs and axes that are too much, or say a thing twice: refused in a sentence, at once."""

from pathlib import Path

import pytest
import yaml

from sgdlit.config.axes import expand
from sgdlit.config.files import read_config
from sgdlit.foundations.errors import UserError

WIDE = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 9)
)
CONFIGS = {
    "trainer: {max_steps: 3}\nname: b\ntrainer: {max_steps: 4}\n": "line 3: 'trainer' stands there twice",
    "model:\n  network: {widths: [1, 2], widths: [3, 4]}\n": "line 2: 'widths' stands there twice",
    WIDE: "holds more than 1000000 values",
    "a: &a [*a, 1]\n": "holds more than 1000000 values",
}


@pytest.mark.parametrize("text", CONFIGS, ids=["key", "inner key", "aliases", "a list in itself"])
def test_a_config(text, tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=CONFIGS[text]):
        read_config(str(path))


def test_aliases_and_merged_keys_that_are_few_are_read(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: [*a, *a]\n")
    assert read_config(str(path)) == yaml.safe_load(path.read_text())


AXES = [
    {"powers_of": 2, "from": 0, "to": 1e9},
    {"powers_of": 2, "from": "-.inf", "to": 3},
    {"powers_of": 2, "from": float("-inf"), "to": 3},
    {"powers_of": 2, "from": 0, "to": float("nan")},
    {"powers_of": 10, "from": 300, "to": 400},
    {"powers_of": 10**400, "from": 0, "to": 1},
    {"log_from": 1, "log_to": float("inf"), "count": 3},
    {"log_from": 1, "log_to": 2, "count": 10**9},
    {"log_from": 1, "log_to": 2, "count": float("nan")},
    {"log_from": 1, "log_to": 2, "count": 2.5},
]


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_an_axis(axis):
    with pytest.raises(UserError, match=r"lr: .* is not allowed; allowed: "):
        expand([{"lr": axis}])


def test_points_of_several_axes():
    many = list(range(1000))
    with pytest.raises(UserError, match="1000000000 points"):
        expand([{"a": many}, {"b": many}, {"c": many}])
