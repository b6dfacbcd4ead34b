"""Members that exchange parameters through ``fit``: equal workers are one run, stop and resume, refusals."""

import pytest
import torch
from fit_runs import Runs, run_differences

DOUBLE = "--trainer.precision=64-true"
SGD = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.05", "--model.optimizer.momentum=0"]
WORKERS = ["--ensemble=[{seed_everything: [0, 1, 2]}]", "--init_seed=0"]
ROOM = "sgdlit.algorithms.mixing."
MIXINGS = {
    "gossip": [f"--mixing={ROOM}Gossip", "--mixing.graph=ring", "--mixing.every=4", "--mixing.mixes=starts"],
    "local": [f"--mixing={ROOM}LocalSGD", "--mixing.every=4", "--mixing.momentum=0.9", "--mixing.lr=0.5"],
    "asynchronous": [
        f"--mixing={ROOM}AsynchronousSGD", "--mixing.times=[1, 2, 3]", "--mixing.every=3",
        "--mixing.momentum=0.9",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("workers"))


def parameters(runs: Runs, name: str, k: int) -> torch.Tensor:
    state = runs.checkpoint(name)["state_dict"]
    return torch.cat([v.flatten() for n, v in state.items() if n.startswith(f"networks.{k}.")])


@pytest.mark.parametrize("mixing", ["Gossip", "LocalSGD"])
def test_workers_that_see_the_same_are_one_run(runs, mixing):
    assert runs.fit(f"one_{mixing}", *SGD, DOUBLE, "--model.engine=stacked") == 0
    same = ["--ensemble=[{model.optimizer.weight_decay: [0.0, 0.0]}]"]
    assert runs.fit(f"same_{mixing}", *SGD, *same, f"--mixing={mixing}", "--mixing.every=2", DOUBLE) == 0
    alone = parameters(runs, f"one_{mixing}", 0)
    for k in range(2):
        torch.testing.assert_close(parameters(runs, f"same_{mixing}", k), alone, rtol=1e-12, atol=1e-12)


def test_workers_agree_where_a_server_has_just_moved_and_say_how_far_apart_they_are(runs):
    """20 steps end with an exchange; the distance is logged at steps 0, 3, …, of which 12 follows one."""
    assert runs.fit("agree", *SGD, *WORKERS, *MIXINGS["local"]) == 0
    first = parameters(runs, "agree", 0)
    assert all(torch.equal(parameters(runs, "agree", k), first) for k in (1, 2))
    apart = {
        int(r["step"]): float(r["train/consensus"]) for r in runs.rows("agree") if r.get("train/consensus")
    }
    assert apart[0] < 1e-20
    assert apart[12] < 1e-20
    assert apart[3] > 1e-6
    assert apart[15] > 1e-6


@pytest.mark.parametrize("mixing", MIXINGS)
def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(runs, mixing):
    arguments = [*SGD, *WORKERS, *MIXINGS[mixing]]
    assert runs.fit(f"{mixing}_straight", *arguments) == 0
    stop = ["--trainer.callbacks=fit_runs.SignalAt", "--trainer.callbacks.steps=[6, 13]"]
    assert runs.fit(f"{mixing}_stopped", *arguments, *stop) == 128 + 15
    assert [runs.resume(f"{mixing}_stopped") for _ in range(2)] == [128 + 15, 0]
    assert run_differences(runs, f"{mixing}_straight", f"{mixing}_stopped") == []


def test_what_cannot_exchange_is_refused_before_a_folder_is_made(runs, capsys):
    assert runs.fit("refused", *SGD, "--mixing=LocalSGD") == 2
    assert "mixing: one run has nobody to exchange with" in capsys.readouterr().err
    assert runs.fit("refused", *SGD, *WORKERS, "--mixing=AsynchronousSGD", "--mixing.times=[1, 2]") == 2
    assert "mixing.times: 2 for 3 members; allowed: one for each" in capsys.readouterr().err
    assert runs.fit("refused", *SGD, *WORKERS, "--mixing=Gossip", "--mixing.graph=star") == 2
    assert "star" in capsys.readouterr().err
    assert not runs.path("refused").exists()
