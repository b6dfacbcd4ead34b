"""The noisy quadratic model through ``fit``: step by step against numpy, and its mean risk against theory."""

import csv
import json

import numpy as np
import pytest
import torch
from conftest import REPOSITORY

from sgdlit import load_run
from sgdlit.cli.main import main
from sgdlit.data.gradient_noise import GradientNoise
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key
from sgdlit.models.quadratic import Quadratic
from sgdlit.papers.quadratic_runs import QuadraticRun
from sgdlit.papers.studies.noisy_quadratic_runs import run as study_of
from sgdlit.papers.studies.options import NoisyQuadraticRunsOptions

D, STEPS = 20, 60
SMALL = [
    "--config", str(REPOSITORY / "configs" / "noisy_quadratic" / "sgd.yaml"),
    "--model.network.d", str(D), "--data.d", str(D), "--data.steps", str(STEPS),
    "--trainer.val_check_interval", "6",
    "--trainer.logger", "false", "--trainer.enable_progress_bar", "false",
]  # fmt: skip
MOMENTUM = ["--model.optimizer.momentum", "0.8", "--data.batch_size", "16"]
DROP = [
    "--model.scheduler", "torch.optim.lr_scheduler.MultiStepLR", "--model.scheduler.milestones", "[30]",
    "--model.scheduler.gamma", "0.1", "--data.batch_size", "1",
]  # fmt: skip
RUNS = 14


def fit(folder, name, *arguments):
    assert main(["fit", *SMALL, "--logs", str(folder), "--name", name, *arguments]) == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """14 runs with momentum and 14 with a drop of the rate, side by side in one folder of runs."""
    folder = tmp_path_factory.mktemp("runs")
    for arguments in (MOMENTUM, DROP):
        for seed in range(RUNS):
            fit(folder, "all", "--seed_everything", str(seed), *arguments)
    return folder / "all"


def test_mean_risks_lie_within_four_standard_errors_of_the_exact_ones(runs):
    study = study_of(NoisyQuadraticRunsOptions(str(runs)))
    assert [claim.id for claim in study.claims] == ["F8", "F5"]
    assert not [str(claim) for claim in study.claims if not claim.holds]
    assert not study.notes
    rows = study.tables["risk"]
    assert len(rows) == 2 * STEPS / 6
    assert len(study.tables["runs"]) == RUNS * len(rows)


def test_the_claim_fails_for_another_momentum(runs, monkeypatch):
    """The same runs against the exact risk at β = 0.5 instead of 0.8."""
    exact = QuadraticRun.exact_risk

    def wrong(self, steps):
        changed = json.loads(json.dumps(self.config))
        changed["model"]["init_args"]["optimizer"]["init_args"]["momentum"] *= 0.5 / 0.8
        return exact(QuadraticRun(changed), steps)

    monkeypatch.setattr(QuadraticRun, "exact_risk", wrong)
    study = study_of(NoisyQuadraticRunsOptions(str(runs)))
    assert [claim.holds for claim in study.claims] == [False, True]


def test_a_run_is_the_recursion_on_the_noise_of_its_stream(tmp_path):
    """θ ← θ − α(hθ + ē) in numpy float64, from the same start and with the same noise."""
    fit(tmp_path, "one", "--seed_everything", "5")
    torch.manual_seed(derive_key(5, "initialisation").lo)
    network = Quadratic(D)
    theta, h = network.theta.detach().double().numpy(), 1 / np.arange(1, D + 1)
    noise, _ = GradientNoise(D, steps=STEPS, batch_size=4, seed=5).draw("train", torch.arange(4 * STEPS))
    risks = {}
    for step, mean in enumerate(noise.double().unflatten(0, (STEPS, 4)).mean(1).numpy(), start=1):
        theta = theta - 0.5 * (h * theta + mean)
        risks[step] = 0.5 * h @ theta**2
    steps, found = load_run(tmp_path / "one" / "version_0").column("test/loss")
    assert steps.tolist() == list(range(6, STEPS + 1, 6))
    np.testing.assert_allclose(found, [risks[step] for step in steps], rtol=1e-5)


def test_the_command_draws_runs_and_says_what_it_leaves_out(runs, tmp_path, capsys):
    again = tmp_path / "logs"
    for seed in ("0", "1", "1"):
        fit(again, "few", "--seed_everything", seed)
    fit(again, "few", "--seed_everything", "2", "--model.optimizer.lr", "2.5", "--data.steps", "600")
    out = tmp_path / "out"
    arguments = ["noisy-quadratic-runs", "--runs", str(again / "few"), "--out", str(out)]
    assert main(["theory", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "mean risk of 2 runs" in printed
    assert "note: lr 0.5, B = 4: version_2 left out, its init_seed is that of another run" in printed
    assert "lr 2.5, B = 4: left out, since version_3 at step" in printed
    assert (out / "risk.png").stat().st_size > 20_000
    rows = list(csv.DictReader((out / "risk.csv").read_text().splitlines()))
    assert len(rows) == STEPS / 6
    assert all(float(value) >= 0 for row in rows for name, value in row.items() if name != "curve")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--model.optimizer.weight_decay", "0.1"], r"model\.optimizer\.weight_decay: 0\.1 .* allowed: 0\.0"),
        (["--data.repeats", "2"], r"data\.repeats: 2"),
        (["--model.reg_strength", "0.1"], r"model\.reg_strength: 0\.1"),
        (["--model.optimizer", "torch.optim.Adam"], r"model\.optimizer: torch\.optim\.Adam"),
    ],
)
def test_runs_whose_risk_is_not_known_are_refused(arguments, named, tmp_path):
    fit(tmp_path, "odd", *arguments, "--data.steps", "6")
    with pytest.raises(UserError, match=named):
        study_of(NoisyQuadraticRunsOptions(str(tmp_path / "odd")))


def test_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(UserError, match="neither the folder of a run"):
        study_of(NoisyQuadraticRunsOptions(str(tmp_path)))
    fit(tmp_path, "one", "--data.steps", "6")
    status = tmp_path / "one" / "version_0" / "status.json"
    status.write_text(json.dumps({"state": "running", "step": 3}))
    with pytest.raises(UserError, match=r"no finished runs to compare; .* version_0 left out, it is running"):
        study_of(NoisyQuadraticRunsOptions(str(tmp_path / "one")))
    status.unlink()
    with pytest.raises(UserError, match=r"status\.json is missing"):
        study_of(NoisyQuadraticRunsOptions(str(tmp_path / "one")))
