"""Another class in a place has its own defaults, and what was given."""

import pytest

from sgdlit.cli.without_running import parse_fit

CONFIG = ["--config", "configs/teachers/mlp_classification.yaml"]  # SGD with lr 0.1
GSM = "sgdlit.algorithms.rules.sparse_momentum.GSM"

CASES = [
    (["--model.optimizer", "GSM"], (0.1, 0.98, 5e-4)),
    (["--model.optimizer", "GSM", "--model.optimizer.momentum", "0.5"], (0.1, 0.5, 5e-4)),
    (["--model.optimizer.momentum", "0.0", "--model.optimizer", GSM], (0.1, 0.0, 5e-4)),
    (
        ["--model.optimizer", f"{{class_path: {GSM}, init_args: {{lr: 0.2, momentum: 0.3}}}}"],
        (0.2, 0.3, None),
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), CASES)
def test_a_new_optimizer_has_its_own_defaults(arguments, expected):
    found = parse_fit([*CONFIG, *arguments]).model.init_args.optimizer
    assert found.class_path == GSM
    lr, momentum, weight_decay = expected
    assert (found.init_args.lr, found.init_args.momentum) == (lr, momentum)
    assert weight_decay is None or found.init_args.weight_decay == weight_decay


def test_an_optimizer_of_a_file_over_another(tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(f"model: {{init_args: {{optimizer: {{class_path: {GSM}, init_args: {{keep: 0.2}}}}}}}}")
    found = parse_fit([*CONFIG, "--config", str(other)]).model.init_args.optimizer.init_args
    assert (found.lr, found.momentum, found.keep) == (0.1, 0.98, 0.2)
