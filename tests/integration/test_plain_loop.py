"""``fit`` against loops written here by hand, on the batches of the same loader."""

import pytest
import torch
from fit_runs import Runs, datamodule
from torch import nn
from torch.nn import functional as F

from sgdlit.foundations.philox import derive_key
from sgdlit.models import MLP

STEPS, RATE, LAMBDA, CLIP = 14, 0.01, 0.1, 0.5
FIT = [f"--trainer.max_steps={STEPS}", f"--model.optimizer.lr={RATE}"]
PENALTY = [f"--model.reg_strength={LAMBDA}"]
WRN = [
    "--model.network=sgdlit.models.WideResNet",
    "--model.network.in_channels=1",
    "--model.network.image_size=28",
    "--trainer.max_steps=4",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("plain"))


def trained_by_hand(runs: Runs, reg_strength: float = 0.0, clip: float | None = None) -> nn.Module:
    """Momentum SGD on C + λ/4 ‖∇C‖², differentiated as it stands there."""
    torch.manual_seed(derive_key(0, "initialisation").lo)
    network = MLP([784, 16, 10])
    parameters = list(network.parameters())
    momentum = [torch.zeros_like(p) for p in parameters]
    data, step = datamodule(runs), 0
    while step < STEPS:
        data.trainer.global_step = step
        for x, y in data.train_dataloader():
            if step == STEPS:
                break
            loss = F.cross_entropy(network(x), y)
            if reg_strength:
                gradient = torch.autograd.grad(loss, parameters, create_graph=True)
                loss = loss + reg_strength / 4 * sum(g.square().sum() for g in gradient)
            gradient = torch.autograd.grad(loss, parameters)
            if clip is not None:
                norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradient]))
                gradient = [g * min(1.0, clip / norm.item()) for g in gradient]
            with torch.no_grad():
                for p, m, g in zip(parameters, momentum, gradient, strict=True):
                    m.mul_(0.9).add_(g)
                    p.add_(m, alpha=-RATE)
            step += 1
    return network


def largest_difference(runs: Runs, name: str, network: nn.Module) -> float:
    state = runs.checkpoint(name)["state_dict"]
    return max(float((state[f"networks.0.{k}"] - v).abs().max()) for k, v in network.state_dict().items())


def test_without_a_penalty_fit_is_plain_sgd_bit_for_bit(runs):
    assert runs.fit("plain", *FIT, "--data.repeats=1", "--model.reg_strength=0") == 0
    assert largest_difference(runs, "plain", trained_by_hand(runs)) == 0.0


def test_repeats_are_steps_on_the_same_minibatch_bit_for_bit(runs):
    """n = 2 on one order is n = 1 on the list in which every minibatch stands twice."""
    rows = list(range(60))
    twice = [row for k in range(0, 60, 10) for row in rows[k : k + 10] * 2]
    order = "--data.order=sgdlit.data.orders.FixedList"
    assert runs.fit("repeated", *FIT, order, f"--data.order.indices={rows}", "--data.repeats=2") == 0
    assert runs.fit("listed", *FIT, order, f"--data.order.indices={twice}") == 0
    repeated, listed = (runs.checkpoint(name)["state_dict"] for name in ("repeated", "listed"))
    assert all(torch.equal(repeated[k], listed[k]) for k in repeated)


@pytest.mark.parametrize("clip", [None, CLIP])
def test_the_penalty_with_and_without_clipping(runs, clip):
    limit = [] if clip is None else [f"--trainer.gradient_clip_val={clip}"]
    assert runs.fit(f"clip_{clip}", *FIT, *PENALTY, *limit) == 0
    truth = trained_by_hand(runs, LAMBDA, clip)
    assert largest_difference(runs, f"clip_{clip}", truth) < 1e-6
    assert largest_difference(runs, f"clip_{clip}", trained_by_hand(runs, LAMBDA, 10 * CLIP)) > 1e-4
    assert largest_difference(runs, f"clip_{clip}", trained_by_hand(runs, 0.9 * LAMBDA, clip)) > 1e-5


def test_bfloat16_and_channels_last_run_the_penalty(runs):
    """The same steps: equal up to the order of sums in another layout, and roughly in bfloat16."""
    layouts = {"wrn": [], "last": ["--model.channels_last=true"], "bf16": ["--trainer.precision=bf16-mixed"]}
    for name, extra in layouts.items():
        assert runs.fit(name, *WRN, *PENALTY, *extra) == 0
    truth = runs.checkpoint("wrn")["state_dict"]
    for name, tolerance in (("last", 1e-5), ("bf16", 1e-2)):
        state = runs.checkpoint(name)["state_dict"]
        apart = max(float((state[k] - truth[k]).abs().max()) for k in truth)
        assert 0 < apart < tolerance
        assert all(t.dtype == torch.float32 for t in state.values())
        first = [float(runs.rows(n)[0]["train/C_reg"]) for n in (name, "wrn")]
        assert first[0] == pytest.approx(first[1], rel=0.05)
