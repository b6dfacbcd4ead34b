"""What a network draws is a function of the run's seed and the step: nothing else in a run can change it."""

import random

import noisy_networks
import numpy as np
import pytest
import torch
from fit_runs import Runs, differences, run_differences
from test_ensemble import member_state
from torch import Tensor, nn

from sgdlit.foundations.generators import kept

DROPOUT = ["--model.network=noisy_networks.Dropping"]
COIN = ["--model.network=noisy_networks.Coin"]
NUMPY = ["--model.network=noisy_networks.NumpysCoin"]


class Counting(nn.Module):
    """Takes another branch at every second call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(784, 10), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x.flatten(1)) * (1.0 if self.calls % 2 else 0.5)


class Recurrent(nn.Module):
    """Rows of an image, one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.LSTM(28, 8, batch_first=True), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x.flatten(1, 2))[0][:, -1])


class Attention(nn.Module):
    """Rows of an image, seen together."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(28, 2, 16, dropout=dropout, batch_first=True)
        self.last = nn.Linear(28, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x.flatten(1, 2)).mean(1))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("network_draws"))


def test_every_generator_follows_from_the_seed_inside_and_goes_on_outside():
    def drawn() -> list[float]:
        return [float(torch.rand(())), random.random(), float(np.random.random())]

    np.random.seed(1)
    before, of_python = np.random.get_state()[1].tolist(), random.getstate()
    found = []
    for outside, seed in ((2, 5), (3, 5), (3, 6)):
        np.random.seed(outside)
        with kept([], seed):
            found.append(drawn())
    assert found[0] == found[1]
    assert all(a != b for a, b in zip(found[1], found[2], strict=True))
    np.random.seed(1)
    with kept([], 7):
        drawn()
    assert np.random.get_state()[1].tolist() == before
    assert random.getstate() == of_python


SOURCES = [
    pytest.param(DROPOUT, id="torch"),
    pytest.param(COIN, id="python", marks=pytest.mark.slow),  # numpy's generator is kept in the same way
    pytest.param(NUMPY, id="numpy"),
]


@pytest.mark.parametrize("own", SOURCES)
@pytest.mark.parametrize(
    "single_steps", [[], ["--trainer.accumulate_grad_batches=2"]], ids=["blocks", "lightning"]
)
def test_a_resumed_run_draws_what_it_would_have_drawn(runs, own, single_steps):
    name = f"{own[0].split('.')[-1]}{len(single_steps)}"
    assert runs.fit(name, *own, *single_steps) == 0
    assert runs.fit(f"{name}_stopped", *own, *single_steps, "--trainer.max_steps=12") == 0
    torch.manual_seed(77)
    random.seed(77)
    np.random.seed(77)
    assert runs.resume(f"{name}_stopped", "--trainer.max_steps=20") == 0
    assert run_differences(runs, f"{name}_stopped", name) == []


@pytest.mark.parametrize("own", SOURCES)
def test_neither_cadence_nor_calls_nor_other_members_change_it(runs, own):
    name = f"same{own[0].split('.')[-1]}"
    assert runs.fit(name, *own) == 0
    end = runs.checkpoint(name)["state_dict"]
    options = {
        "cadence": ["--trainer.log_every_n_steps=1"],
        "calls": ["--model.steps_per_call=1"],
        "measured": [
            "--trainer.callbacks=sgdlit.training.measuring.Measures",
            "--trainer.callbacks.measures=[GradientNorm, CReg]",
            "--trainer.callbacks.every_n_steps=2",
            "--trainer.callbacks.examples=60",
        ],
    }
    for case, arguments in options.items():
        assert runs.fit(f"{name}_{case}", *own, *arguments) == 0
        assert differences(runs.checkpoint(f"{name}_{case}")["state_dict"], end) == [], case
    assert runs.fit(f"{name}_members", *own, "--ensemble=[{seed_everything: [3, 0, 1]}]") == 0
    members = runs.checkpoint(f"{name}_members")
    assert differences(member_state(members, 1), member_state({"state_dict": end}, 0)) == []
    assert differences(member_state(members, 0), member_state(members, 1)) != []


def test_a_logged_loss_is_that_of_the_step(runs):
    """The row of step 0 and the loss of the update that follows it see the same dropout."""
    options = ["--trainer.log_every_n_steps=1", "--trainer.max_steps=3"]
    assert runs.fit("logged", *DROPOUT, *options) == 0
    assert runs.fit("logged_single", *DROPOUT, *options, "--trainer.accumulate_grad_batches=2") == 0
    blocks = [row["train/loss"] for row in runs.rows("logged") if row["train/loss"]]
    assert len(set(blocks)) == 3


@pytest.mark.parametrize("network", ["Coin", "NumpysCoin", "Branching", "Counting", "Recurrent"])
def test_what_a_graph_would_leave_out_is_not_recorded(runs, network, capsys):
    where = "noisy_networks" if hasattr(noisy_networks, network) else "test_network_draws"
    own = [f"--model.network={where}.{network}", "--trainer.max_steps=4"]
    assert runs.fit(f"refused_{network}", *own, "--model.engine=stacked") == 2
    assert "cannot be recorded as a graph" in capsys.readouterr().err
    assert runs.fit(f"auto_{network}", *own) == 0
    assert runs.fit(f"loop_{network}", *own, "--model.engine=loop") == 0
    assert run_differences(runs, f"auto_{network}", f"loop_{network}") == []


@pytest.mark.parametrize("network", ["Recurrent", "Attention"])
def test_layers_with_fused_forms_can_be_penalized(runs, network):
    """The gradient of the modified loss, against finite differences of ‖∇C‖² in float64."""
    own = [
        f"--model.network=test_network_draws.{network}",
        "--trainer.max_steps=4",
        "--trainer.precision=64-true",
    ]
    assert runs.fit(f"exact_{network}", *own, "--model.reg_strength=0.5", "--model.engine=loop") == 0
    difference = ["--model.objective=FiniteDifferencePenalty", "--model.objective.delta=1e-5"]
    assert runs.fit(f"difference_{network}", *own, "--model.reg_strength=0.5", *difference) == 0
    exact, other = (runs.checkpoint(f"{kind}_{network}")["state_dict"] for kind in ("exact", "difference"))
    assert differences(exact, other, tolerance=1e-7) == []
    assert runs.fit(f"plain_{network}", *own) == 0
    assert differences(exact, runs.checkpoint(f"plain_{network}")["state_dict"], tolerance=1e-5) != []
