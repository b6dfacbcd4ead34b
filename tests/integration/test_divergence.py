"""Divergence is a result: recorded at the right step, with exit code 0, and never in a checkpoint."""

import json
import math

import pytest
import torch
from fit_runs import Runs, datamodule

from sgdlit.cli.main import main
from sgdlit.foundations.philox import derive_key
from sgdlit.models import MLP
from sgdlit.objectives import loss_by_name

LOSS = "half_squared_error"
RATE = 0.08


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("divergence"))


def first_step_without_a_finite_loss(runs: Runs, accumulate: int = 1) -> int:
    """By a loop written here: the number of updates made before the first loss that is not finite."""
    torch.manual_seed(derive_key(0, "initialisation").lo)
    network, loss = MLP([784, 16, 10], "identity"), loss_by_name(LOSS)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    data, step, finite = datamodule(runs, accumulate), 0, True
    while step < 20:
        data.trainer.global_step = step
        for k, (x, y) in enumerate(data.train_dataloader()):
            cost = loss(network(x), y)
            finite &= math.isfinite(cost.item())
            (cost / accumulate).backward()
            if (k + 1) % accumulate == 0:
                if not finite:
                    return step
                optimizer.step()
                optimizer.zero_grad()
                step += 1
    raise AssertionError("this run does not diverge")


@pytest.mark.parametrize(
    ("accumulate", "log_every", "validate"), [(1, 1, "1.0"), (1, 50, "1.0"), (2, 4, "1.0"), (1, 50, "1")]
)
def test_the_step_is_that_of_the_first_loss_that_is_not_finite(runs, accumulate, log_every, validate):
    truth = first_step_without_a_finite_loss(runs, accumulate)
    assert 3 < truth < 20
    name = f"diverged_{accumulate}_{log_every}_{validate}"
    arguments = [
        f"--model.loss={LOSS}",
        "--model.network.activation=identity",
        "--model.optimizer=torch.optim.SGD",
        f"--model.optimizer.lr={RATE}",
        "--model.optimizer.momentum=0",
        f"--trainer.accumulate_grad_batches={accumulate}",
        f"--trainer.log_every_n_steps={log_every}",
        f"--trainer.val_check_interval={validate}",
        "--checkpoints.every_n_steps=1",
    ]
    assert runs.fit(name, *arguments) == 0
    status = runs.status(name)
    assert (status["state"], status["step"]) == ("diverged", truth)
    assert all(math.isfinite(v) for k, v in status.items() if k != "state")
    for which in ("resume", "best"):
        checkpoint = runs.checkpoint(name, which)
        assert checkpoint["global_step"] <= truth
        assert all(bool(t.isfinite().all()) for t in checkpoint["state_dict"].values())
    seen = validate == "1"  # an evaluation finds, one step before the next loss does, what that would be
    assert runs.checkpoint(name)["global_step"] == truth - seen
    evaluated = {int(row["step"]): float(row["val/loss"]) for row in runs.rows(name) if row.get("val/loss")}
    assert max(evaluated) <= truth
    assert all(math.isfinite(loss) for step, loss in evaluated.items() if step < truth)


@pytest.mark.parametrize("steps", [1, 9])
def test_parameters_that_one_update_broke_are_found_before_they_are_kept(runs, steps):
    """The first loss is finite, and what the first update makes of the parameters is not."""
    name = f"overflow_{steps}"
    arguments = [
        f"--model.loss={LOSS}",
        "--model.optimizer.lr=3e38",
        "--model.reg_strength=9",
        f"--trainer.max_steps={steps}",
        "--checkpoints.every_n_steps=1",
    ]
    assert runs.fit(name, *arguments) == 0
    assert runs.status(name) == {"state": "diverged", "step": 1}
    assert not (runs.path(name) / "checkpoints").exists()
    assert not any(row.get("val/loss") for row in runs.rows(name))


def test_the_mean_over_runs_leaves_out_those_that_diverged(runs, capsys):
    both, alone = "[{model.optimizer.lr: [1.0e+30, 0.01]}]", "[{model.optimizer.lr: [0.01]}]"
    for name, members in (("both", both), ("alone", alone)):
        assert runs.fit(name, f"--ensemble={members}", "--trainer.max_steps=5") == 0
        assert main(["test", "--run", str(runs.path(name))]) == 0
    a, b = (json.loads((runs.path(name) / "test.json").read_text()) for name in ("both", "alone"))
    assert a["test/accuracy"] == b["test/accuracy"]
    assert a["test/loss"] == pytest.approx(b["test/loss"], rel=1e-6)
    assert "without 1 of 2 members" in capsys.readouterr().err


def test_an_early_stop_on_what_is_not_evaluated_says_what_is(runs, capsys):
    early = ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/los"]
    assert runs.fit("early", *early) == 2
    assert "val/los" in capsys.readouterr().err


def test_an_evaluation_that_is_not_finite_is_no_record(runs):
    """One update leaves huge, finite parameters and no further loss: only the last evaluation sees it."""
    assert runs.fit("huge", "--model.optimizer.lr=1e38", "--trainer.max_steps=1") == 0
    assert runs.status("huge") == {"state": "diverged", "step": 1}
    assert not math.isfinite(float(runs.rows("huge")[-1]["val/loss"]))
    assert not (runs.path("huge") / "checkpoints").exists()
