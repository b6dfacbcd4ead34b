"""The claims of the theory studies at quick sizes, and what their commands write."""

import csv
import json

import pytest

from sgdlit.cli.theory import STUDIES, main
from sgdlit.foundations.errors import UserError
from sgdlit.papers.studies import linear_regression, noisy_quadratic, online_convex
from sgdlit.papers.studies.options import LinearRegressionOptions, NoisyQuadraticOptions, OnlineConvexOptions
from sgdlit.theory.first_crossing import best_constant_rate
from sgdlit.theory.noisy_quadratic import NoisyQuadratic
from sgdlit.theory.optimizers import SGD


def failures(study):
    return [str(claim) for claim in study.claims if not claim.holds]


def test_published_steps_of_plain_sgd():
    """10⁴ dimensions, h = c = 1/i, target 0.01: about 1.51 million steps at B = 4, about 8 200 at B = 2¹⁶."""
    small, large = best_constant_rate(NoisyQuadratic.power_law(), [SGD()], [4, 2**16], 0.01)
    assert small.steps == pytest.approx(1.51e6, rel=0.02)
    assert large.steps == pytest.approx(8200, rel=0.02)


def test_noisy_quadratic_claims_at_a_hundredth_of_the_size():
    options = NoisyQuadraticOptions(
        dimensions=300, target=0.02, batch_sizes=[1.0, 16.0, 256.0, 4096.0, 65536.0]
    )
    study = noisy_quadratic.run(options)
    assert not failures(study)
    assert {"G2", "G7", "G8", "G9", "G10", "G11"} <= {claim.id for claim in study.claims}
    assert all(row["steps"] >= row["bound"] for row in study.tables["steps"] if row["steps"])


def test_an_unreachable_target_leaves_empty_cells_and_says_so():
    options = NoisyQuadraticOptions(
        dimensions=20, target=1e-9, batch_sizes=[1.0, 2.0], rates=5, decades=1, one_minus_momentum=[0.1],
        one_minus_decay=[0.1], preconditioners=[0.0],
    )  # fmt: skip
    study = noisy_quadratic.run(options)
    assert all(row["steps"] is None for row in study.tables["steps"])
    assert any("not reached" in note for note in study.notes)


def test_linear_regression_claims():
    """400 runs: the risk of SGD is skewed, and means of 60 lie 5 errors off once in a hundred seeds."""
    options = LinearRegressionOptions(
        runs=400, steps=100, covariance_samples=20_000, kaczmarz_steps=1000, conditions=[128.0, 2048.0]
    )
    assert not failures(linear_regression.run(options))


def test_online_convex_claims():
    assert not failures(online_convex.run(OnlineConvexOptions(steps=[10, 100], runs=100)))


def test_a_command_writes_figures_and_tables_without_nan(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"steps": [10, 20], "runs": 50}))
    out = tmp_path / "out"
    assert main(["online-convex", "--config", str(config), "--runs", "20", "--out", str(out), "--svg"]) == 0
    printed = capsys.readouterr().out
    assert "B10" in printed
    assert "holds: yes" in printed
    assert f"{out / 'regret.png'}" in printed
    assert {path.name for path in out.iterdir()} == {"regret.csv", "regret.png", "regret.svg"}
    rows = list(csv.DictReader((out / "regret.csv").read_text().splitlines()))
    assert [row["steps"] for row in rows] == ["10", "20"]
    assert all(value not in ("nan", "") for row in rows for value in row.values())


def test_figures_of_an_unreachable_target_are_drawn(tmp_path):
    small = [f"--{k}={v}" for k, v in {
        "dimensions": 10, "target": 1e-9, "batch_sizes": "[1,4]", "rates": 3, "decades": 1,
        "one_minus_momentum": "[0.1]", "one_minus_decay": "[0.1]",
    }.items()]  # fmt: skip
    assert main(["noisy-quadratic", "--out", str(tmp_path), *small]) == 0
    assert (tmp_path / "steps_to_target.png").stat().st_size > 10_000
    assert "nan" not in (tmp_path / "steps.csv").read_text()


def test_commands_answer_mistakes_in_one_line(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="no such folder can be made"):
        main(["online-convex", "--out", str(tmp_path / "file")])
    with pytest.raises(UserError, match="there are modified-flow"):
        main(["no-such-study"])
    with pytest.raises(UserError, match="m = 7"):
        main(["modified-flow", "--m", "7"])
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert all(name in overview for name in STUDIES)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["noisy-quadratic", "--target", "abc"], '"target": Expected .* abc; .* noisy-quadratic --help'),
        (["noisy-quadratic", "--taret", "0.1"], "unrecognized arguments: --taret"),
        (["noisy-quadratic", "--targ", "0.1"], "unrecognized arguments: --targ"),
        (["noisy-quadratic", "--pieces", "0"], "pieces = 0"),
        (["noisy-quadratic", "--target", "-1"], r"target = -1\.0: must be positive"),
        (["noisy-quadratic", "--one_minus_momentum", "[0]"], r"momentum = 1\.0: must lie in \[0, 1\)"),
        (["noisy-quadratic-runs"], "required: runs"),
        (["modified-flow", "--n_steps", "[0]"], r"n_steps = \[0\]"),
        (["modified-flow", "--igr_steps", "[0.01,0.5]"], r"step = 0\.5: gradient descent diverges"),
        (["modified-flow", "--largest_lr", "50"], r"largest_lr = 50\.0 .* well below 0\.\d+, one over the"),
        (["linear-regression", "--conditions", "[0.5]"], r"condition = 0\.5"),
        (["linear-regression", "--batch_size", "0"], "batch_size = 0: must be at least 1"),
        (["linear-regression", "--examples", "3"], "examples = 3: must be at least 8"),
        (["linear-regression", "--lr_share", "1"], r"lr_share = 1\.0: must lie above 0 and below 1"),
        (["online-convex", "--steps", "[]"], "steps is empty"),
    ],
)
def test_bad_options_are_named_before_anything_is_computed(arguments, named, tmp_path, capsys):
    with pytest.raises(UserError, match=named) as refusal:
        main([*arguments, "--out", str(tmp_path)])
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


def test_progress_is_printed_where_it_cannot_be_drawn(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sgdlit.foundations.progress.PRINT_SECONDS", 0.0)
    assert main(["online-convex", "--steps", "[10,20]", "--runs", "20", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["runs 1/2  0:00 passed, 0:00 left", "runs 2/2  0:00 passed, 0:00 left"]


@pytest.mark.parametrize("name", STUDIES)
def test_help_explains_symbols(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert "Symbols" in capsys.readouterr().out


def test_linear_regression_without_label_noise_claims_nothing_about_it():
    options = LinearRegressionOptions(
        label_variance=0.0, runs=20, steps=20, covariance_samples=2000, kaczmarz_steps=20, conditions=[16.0]
    )
    study = linear_regression.run(options)
    assert not failures(study)
    assert len({row["curve"] for row in study.tables["risk"]}) == 2
    assert sum("label_variance is 0" in note for note in study.notes) == 2
