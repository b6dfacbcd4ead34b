"""What ``fit`` accepts: options count wherever they stand."""

import pytest
from conftest import REPOSITORY

from sgdlit.cli.run_options import configs_first
from sgdlit.cli.without_running import parse_fit


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            ["--lr", "1", "--config", "a", "--config=b", "--x"],
            ["--config", "a", "--config=b", "--lr", "1", "--x"],
        ),
        (["-c", "a", "--lr", "1"], ["-c", "a", "--lr", "1"]),
        (["--lr", "1", "--config"], ["--config", "--lr", "1"]),
        ([], []),
    ],
)
def test_configs_come_first_in_their_order(given, expected):
    assert configs_first(given) == expected


def test_an_option_before_the_config_overrules_it():
    config = ["--config", str(REPOSITORY / "configs" / "teachers" / "xor.yaml")]
    options = ["--seed_everything", "7", "--model.optimizer.lr", "0.5"]
    before, after = parse_fit([*options, *config]), parse_fit([*config, *options])
    assert (before.seed_everything, before.model.init_args.optimizer.init_args.lr) == (7, 0.5)
    assert before.as_dict() == after.as_dict()
