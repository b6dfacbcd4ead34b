"""What the papers compute from options and runs: what they refuse, leave out, and conclude."""

import gzip
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY

from sgdlit.cli.main import main
from sgdlit.config.keys import value_at
from sgdlit.data.gradient_noise import GradientNoise
from sgdlit.figures.deep_bootstrap import draw, worlds_of
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key
from sgdlit.models.quadratic import Quadratic
from sgdlit.papers import blog, strohmer2009
from sgdlit.papers.claim import EXACT
from sgdlit.papers.nakkiran2020 import leaves_at
from sgdlit.papers.paper import Workshop
from sgdlit.papers.support import epoch_flows, mean_risks, rate_drop, steps_to_target
from sgdlit.papers.support.lrs_of_runs import learning_rates
from sgdlit.papers.support.quadratic_runs import QuadraticRun
from sgdlit.papers.support.sensing_instances import protocol_lr
from sgdlit.papers.support.stochastic_regression import RegressionOptions, measure_regression
from sgdlit.runs.reading import load_run

ALONE = Workshop()


def failures(evidence):
    return [str(finding) for finding in evidence.findings if not finding.holds]


# Smith et al. 2021


@pytest.fixture
def images(tmp_path):
    """A folder in Fashion-MNIST's format: 40 smooth random images, ten labels."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    for name, array in (("train-images-idx3-ubyte", pixels), ("train-labels-idx1-ubyte", np.arange(40) % 10)):
        header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
        with gzip.open(tmp_path / f"{name}.gz", "wb") as file:
            file.write(header + array.astype(np.uint8).tobytes())
    return tmp_path


def test_the_modified_flow_is_followed_on_image_minibatches_with_sampled_orders(images):
    options = epoch_flows.Options(m=3, halvings=4, order_pairs=2, n_steps=[1, 2])
    evidence = epoch_flows.measure_flow(options, replace(ALONE, data=images))
    assert not failures(evidence)
    assert {row["problem"] for row in evidence.tables["slopes"]} == {
        "tanh network, normal data",
        "tanh network, Fashion-MNIST",
    }


# Zhang et al. 2019


def test_an_unreachable_target_leaves_empty_cells_and_says_so():
    options = steps_to_target.Options(
        dimensions=20, target=1e-9, batch_sizes=[1.0, 2.0], rates=5, decades=1, one_minus_momentum=[0.1],
        one_minus_decay=[0.1], preconditioners=[0.0],
    )  # fmt: skip
    evidence = steps_to_target.measure_steps(options, ALONE)
    assert all(row["steps"] is None for row in evidence.tables["steps"])
    assert any("not reached" in note for note in evidence.notes)


def test_no_number_of_steps_lies_below_the_bound():
    options = steps_to_target.Options(
        dimensions=100, target=0.05, batch_sizes=[1.0, 256.0], rates=20, pieces=3
    )
    rows = steps_to_target.measure_steps(options, ALONE).tables["steps"]
    assert all(row["steps"] >= row["bound"] for row in rows if row["steps"])


D, STEPS = 20, 60
SMALL = [
    "--config", str(REPOSITORY / "configs" / "noisy_quadratic" / "sgd.yaml"),
    "--model.network.d", str(D), "--data.d", str(D), "--data.steps", str(STEPS),
    "--trainer.val_check_interval", "6",
    "--trainer.logger", "false", "--trainer.enable_progress_bar", "false",
]  # fmt: skip


def fit(folder, name, *arguments):
    assert main(["fit", *SMALL, "--logs", str(folder), "--name", name, *arguments]) == 0


def runs_of(folder):
    return mean_risks.measure_runs(str(folder), ALONE)


def test_the_claim_fails_for_another_momentum(tmp_path, monkeypatch):
    """The same runs against the exact risk at β = 0.5 instead of 0.8."""
    for seed in range(14):
        own = ["--model.optimizer.momentum", "0.8", "--data.batch_size", "16", "--seed_everything", str(seed)]
        fit(tmp_path, "momentum", *own)
    assert [finding.holds for finding in runs_of(tmp_path / "momentum").findings] == [True]
    exact = QuadraticRun.exact_risk

    def wrong(self, steps):
        changed = json.loads(json.dumps(self.config))
        changed["model"]["init_args"]["optimizer"]["init_args"]["momentum"] *= 0.5 / 0.8
        return exact(QuadraticRun(changed), steps)

    monkeypatch.setattr(QuadraticRun, "exact_risk", wrong)
    assert [finding.holds for finding in runs_of(tmp_path / "momentum").findings] == [False]


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
    np.testing.assert_allclose(found, [risks[step] for step in steps.tolist()], rtol=1e-5)


def test_runs_that_diverged_or_share_a_seed_are_left_out(tmp_path):
    for seed in ("0", "1", "1"):
        fit(tmp_path, "few", "--seed_everything", seed)
    fit(tmp_path, "few", "--model.optimizer.lr", "2.5", "--data.steps", "3000")
    evidence = runs_of(tmp_path / "few")
    assert "lr 0.5, B = 4: version_2 left out, its init_seed is that of another run" in evidence.notes
    assert any(note.startswith("lr 2.5, B = 4: left out, since version_3 at step") for note in evidence.notes)
    assert "mean risk of 2 runs" in evidence.findings[0].statement
    rows = evidence.tables["risk"]
    assert len(rows) == STEPS / 6
    assert all(value >= 0 for row in rows for name, value in row.items() if name != "curve")
    mean_risks.draw_runs(evidence.tables)


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
        runs_of(tmp_path / "odd")


def test_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(UserError, match="neither the folder of a run"):
        runs_of(tmp_path)
    fit(tmp_path, "one", "--data.steps", "6")
    status = tmp_path / "one" / "version_0" / "status.json"
    status.write_text(json.dumps({"state": "running", "step": 3}))
    with pytest.raises(UserError, match=r"no finished runs to compare; .* version_0 left out, it is running"):
        runs_of(tmp_path / "one")
    status.unlink()
    with pytest.raises(UserError, match=r"status\.json is missing"):
        runs_of(tmp_path / "one")


# The lecture


def drop(**given):
    return rate_drop.measure_drop(rate_drop.DropOptions(**given), ALONE)


def test_the_model_falls_at_once_to_its_new_floor():
    evidence = drop(dimensions=20, steps=400, simulations=40)
    assert not failures(evidence)
    rows = evidence.tables["model"]
    floors = sorted({row["floor"] for row in rows})
    assert len(floors) == 2
    assert floors[0] < 0.1 * floors[1]  # F6: a little less than a tenth
    assert {row["lr"] for row in rows} == {0.5, 0.05}
    assert evidence.notes  # that the network was left out is said


def test_runs_without_a_drop_or_a_metric_are_refused(real_data, tmp_path):
    small = [
        "--config", str(REPOSITORY / "configs" / "rate_drop" / "fashion_mlp.yaml"),
        "--model.network.widths", "[784,8,10]", "--data.val_size", "2000", "--trainer.max_steps", "100",
        "--trainer.val_check_interval", "50", "--trainer.limit_val_batches", "2",
        "--trainer.accelerator", "cpu",
        "--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--logs", str(tmp_path),
        "--data.root", str(real_data / "fashion-mnist"),
    ]  # fmt: skip
    assert main(["fit", *small, "--name", "none", "--model.scheduler.gamma", "1.0"]) == 0
    with pytest.raises(UserError, match="0 drops of the rate"):
        drop(runs=str(tmp_path / "none"))
    with pytest.raises(UserError, match="no column 'val/nothing'"):
        drop(runs=str(tmp_path / "none"), metric="val/nothing")


def test_a_steady_fall_is_not_sudden():
    def holds(steps, values):
        return rate_drop.sudden_fall("curve", steps, values, 50, EXACT).holds

    steps = np.arange(1, 101)
    steady = np.exp(-0.02 * steps)
    assert not holds(steps, steady)
    assert holds(steps, np.where(steps > 50, 0.5, 1.0) * np.exp(-0.002 * steps))
    assert not holds(steps, np.where(steps > 50, 2.0, 1.0))
    with pytest.raises(UserError, match="too few"):
        holds(steps[::40], steady[::40])


def test_rates_are_those_of_the_schedule():
    def config(**scheduler):
        return {
            "model": {"init_args": {"optimizer": {"init_args": {"lr": 0.5}}, "scheduler": scheduler or None}}
        }

    assert learning_rates(config(), 3) == [0.5] * 3
    step = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2, "gamma": 0.1}}
    assert learning_rates(config(**step), 5) == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005])
    warm = {"class_path": "sgdlit.training.schedules.SampleWarmUp", "init_args": {"samples": 4, "start": 0.5}}
    assert learning_rates(config(**warm), 4) == pytest.approx([0.25, 0.375, 0.5, 0.5])
    for path, arguments in (
        ("os.system", {"command": "false"}),
        ("torch.optim.lr_scheduler.ReduceLROnPlateau", {"monitor": "val/loss"}),
    ):
        with pytest.raises(UserError, match="not known without the run"):
            learning_rates(config(class_path=path, init_args=arguments), 3)
    with pytest.raises(UserError, match=r"model\.optimizer\.lr: missing"):
        learning_rates({"model": {}}, 3)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"lr": 2.0}, r"lr = 2\.0: must lie above 0 and below 2"),
        ({"steps": 3}, "steps = 3"),
        ({"factor": 1.0}, r"factor = 1\.0"),
        ({"simulations": 1}, "simulations = 1"),
    ],
)
def test_drops_that_cannot_be_are_named(given, named):
    with pytest.raises(UserError, match=named):
        drop(**given)


def test_regression_without_label_noise_claims_nothing_about_it():
    options = RegressionOptions(label_variance=0.0, runs=20, steps=20, covariance_samples=2000)
    evidence = measure_regression(options, ALONE)
    assert not failures(evidence)
    assert len({row["curve"] for row in evidence.tables["risk"]}) == 2
    kaczmarz = strohmer2009.measure(strohmer2009.Options(label_variance=0.0, runs=20, steps=20), ALONE)
    assert not failures(kaczmarz)
    assert all("label_variance is 0" in note for note in evidence.notes + kaczmarz.notes)
    assert len(evidence.notes + kaczmarz.notes) == 2


# The deep bootstrap


def bootstrap_run(folder, sizes):
    """A run of four members whose numbers are known."""
    rows = [("0", "10", 0.5, 0.9), ("1", "10", 0.4, ""), ("2", "10", 0.7, 1.0), ("3", "10", 0.5, "")]
    text = "step,member,test/soft_error,train_set/accuracy\n"
    text += "".join(f"{step},{member},{error},{accuracy}\n" for member, step, error, accuracy in rows)
    (folder / "metrics.csv").write_text(text)
    points = [{"data.shard_size": n, "seed_everything": s} for s in (0, 1) for n in sizes]
    members = [{"point": point, "state": "finished", "step": 10, "reached": {}} for point in points]
    (folder / "status.json").write_text(json.dumps({"state": "finished", "step": 10, "members": members}))
    return load_run(folder)


def test_worlds_of_known_numbers(tmp_path):
    found = worlds_of(bootstrap_run(tmp_path, (50, None)))
    (row,) = found[50]
    assert (row["step"], row["error"], row["gap"]) == (10, pytest.approx(0.6), pytest.approx(0.15))
    assert row["train_error"] == pytest.approx(0.05)
    # t(0.975, 1) = 12.706 times s/√n, where s = 0.1·√2 and n = 2
    assert row["error_high"] - row["error"] == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert found[None][0]["gap"] == 0
    assert draw(load_run(tmp_path)) is not None
    assert leaves_at([{"step": 1, "gap": 0.03}, {"step": 2, "gap": 0.01}, {"step": 3, "gap": 0.05}]) == 3
    assert leaves_at([{"step": 1, "gap": 0.01}]) is None


def test_a_run_without_an_ideal_world_has_no_picture(tmp_path, capsys):
    assert draw(bootstrap_run(tmp_path, (50, 60))) is None
    assert "with null, the stream, among its values" in capsys.readouterr().err


# The blog


@pytest.mark.parametrize(
    ("given", "named"),
    [({"d": 4, "r": 5}, "r = 5"), ({"draws": 1}, "draws = 1"), ({"shares": [1.0]}, r"1\.0")],
)
def test_least_squares_that_cannot_be_are_named(given, named):
    options = blog.Options(least_squares=blog.LeastSquaresOptions(**given))
    with pytest.raises(UserError, match=named):
        blog.measure_least_squares(options, ALONE)


def test_divergence_is_recorded_at_the_step_at_which_a_bare_loop_has_it(tmp_path, monkeypatch):
    """B3 through the command line: a diverged run is a result with a step, and exit status 0."""
    from fake_trainer import attach

    from sgdlit.data.sensing import MatrixSensing
    from sgdlit.models import DeepLinear
    from sgdlit.models.sensing import BilinearForm
    from sgdlit.objectives import HalfSquaredError

    monkeypatch.chdir(tmp_path)
    lr = 16 * protocol_lr(32)
    path = str(REPOSITORY / "configs/matrix_sensing/simple.yaml")
    arguments = ["fit", "--config", path, "--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "50"]
    arguments += ["--data.d", "32", "--data.steps", "512", "--model.network.net.widths", "[32,32,32]"]
    assert main([*arguments, "--model.optimizer.lr", str(lr)]) == 0
    status = json.loads(Path("logs/matrix_sensing_simple/version_0/status.json").read_text())
    assert status["state"] == "diverged"

    data = attach(MatrixSensing(d=32, r=2, gamma=100.0, batch_size=1, steps=512, seed=0))
    torch.manual_seed(derive_key(0, "initialisation").lo)
    network, losses = BilinearForm(DeepLinear([32, 32, 32])), []
    for pairs, y in data.train_dataloader():
        losses.append(HalfSquaredError()(network(pairs), y))
        gradient = torch.autograd.grad(losses[-1], list(network.parameters()))
        with torch.no_grad():
            torch._foreach_add_(list(network.parameters()), gradient, alpha=-lr)
    assert status["step"] == next(step for step, loss in enumerate(losses) if not loss.isfinite())
    assert value_at(load_run("logs/matrix_sensing_simple/version_0").config, "figure") == "sensing"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            ["--trainer.callbacks", "IterateAverage"],
            "trainer.callbacks: sgdlit.training.iterate_average.Iter",
        ),
        (["--trainer.precision", "bf16-mixed"], "trainer.precision: bf16-mixed"),
    ],
)
def test_runs_whose_exact_risk_is_another_are_refused(tmp_path, changed, words):
    """θ̃ has a risk of its own; so have rounded parameters."""
    fit(tmp_path, "other", *changed, "--trainer.max_steps", "6")
    with pytest.raises(UserError, match=words):
        runs_of(tmp_path / "other")
