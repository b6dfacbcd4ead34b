"""Single-epoch SGD on matrix sensing, claims B1 and B3–B7 at quick scale.

Source: "Implicit bias in single epoch SGD" (blog); the numbers to be met are the published ones or, for small
instances, follow from the same claim. The networks, the data and the loss are those of the package; the loop
around them is bare.
"""

import json
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from fake_trainer import attach

from sgdlit.cli.main import main
from sgdlit.data.sensing import MatrixSensing
from sgdlit.foundations.philox import derive_key
from sgdlit.measures.relative_error import relative_error
from sgdlit.measures.relative_squared_error import relative_squared_error
from sgdlit.models import DeepLinear
from sgdlit.models.sensing import BilinearForm, NormalizedStack
from sgdlit.objectives import HalfSquaredError

DIVERGED = math.inf


def instance(d, r=2, gamma=100.0, batch_size=1, seed=0, **given):
    """d²/2 samples of a matrix of rank r."""
    steps = d * d // 2 // batch_size
    return attach(
        MatrixSensing(d=d, r=r, gamma=gamma, batch_size=batch_size, steps=steps, seed=seed, **given)
    )


def simple_network(d, seed=0):
    torch.manual_seed(derive_key(seed, "initialisation").lo)
    return BilinearForm(DeepLinear([d, d, d]))


def learn(data, network, lr, look=None):
    """The error after plain SGD over the whole stream, or DIVERGED; ``look(step, error)`` every 100 steps."""
    parameters, loss, target = list(network.parameters()), HalfSquaredError(), data.target
    for step, (pairs, y) in enumerate(data.train_dataloader(), start=1):
        gradient = torch.autograd.grad(loss(network(pairs), y), parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, gradient, alpha=-lr)
        if step % 100 == 0:
            if not parameters[0].isfinite().all():
                return DIVERGED
            if look is not None:
                look(step, float(relative_error(network.matrix.detach(), target.to(parameters[0].dtype))))
    return float(relative_error(network.matrix.detach().double(), target))


def protocol_rate(d, gamma=100.0):
    """B5: lr = 0.131/(γ d²), which is B1's 2e-8 at d = 256, γ = 100."""
    return 0.131 / (gamma * d * d)


@cache
def end_of_run(d, factor=1.0, gamma=100.0):
    """The error at the end of the simple setting at ``factor`` times the protocol's rate."""
    return learn(instance(d, gamma=gamma), simple_network(d), factor * protocol_rate(d, gamma))


def test_b1_a_linear_network_recovers_the_matrix_from_half_as_many_samples_as_entries():
    """Published: near 1 to about 6000 samples, 0.13 near 15 000, below 0.01 before 25 000, end < 0.006."""
    errors = {}
    end = learn(instance(256), simple_network(256), 2e-8, errors.__setitem__)
    assert min(errors[step] for step in range(100, 5001, 100)) > 0.97
    assert 0.06 < errors[15000] < 0.2
    assert min(step for step, error in errors.items() if error < 0.01) < 25000
    assert end < 0.006


def test_b3_too_small_a_rate_learns_nothing_too_large_a_rate_diverges():
    """A quarter and four times the rate of the protocol, as 5e-9 and 8e-8 are to 2e-8 at d = 256."""
    assert end_of_run(128, 0.25) > 0.95
    assert end_of_run(128) < 0.15
    assert end_of_run(128, 4.0) == DIVERGED


def test_b3_divergence_is_recorded_at_its_step(tmp_path, monkeypatch):
    """The same through the command line: a diverged run is a result with a step, and exit status 0."""
    monkeypatch.chdir(tmp_path)
    path = str(Path(__file__).parents[2] / "configs/matrix_sensing/simple.yaml")
    arguments = ["fit", "--config", path, "--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "50"]
    arguments += ["--data.init_args.d", "32", "--data.init_args.steps", "512"]
    arguments += ["--model.init_args.network.init_args.net.init_args.widths", "[32,32,32]"]
    arguments += ["--model.init_args.optimizer.init_args.lr", str(16 * protocol_rate(32))]
    assert main(arguments) == 0
    status = json.loads((tmp_path / "logs/matrix_sensing_simple/version_0/status.json").read_text())
    assert status["state"] == "diverged"

    losses, network, data = [], simple_network(32), instance(32)
    for pairs, y in data.train_dataloader():
        losses.append(HalfSquaredError()(network(pairs), y))
        gradient = torch.autograd.grad(losses[-1], list(network.parameters()))
        with torch.no_grad():
            torch._foreach_add_(list(network.parameters()), gradient, alpha=-16 * protocol_rate(32))
    first = next(step for step, loss in enumerate(losses) if not loss.isfinite())
    assert status["step"] == first


def test_b4_scaling_the_target_up_is_scaling_the_initialisation_down():
    """W = sW′, T = s²T′ ⇒ η′ = s²η gives the same run to rounding: formulas F1, in float64."""
    s, d, gamma, lr = 1.7, 16, 2.0, 1e-3
    large, small = simple_network(d).double(), simple_network(d).double()
    with torch.no_grad():
        torch._foreach_div_(list(small.parameters()), s)
    end = learn(instance(d, gamma=gamma, dtype="float64"), large, lr)
    scaled_end = learn(instance(d, gamma=gamma / s**2, dtype="float64"), small, lr * s**2)
    assert scaled_end == pytest.approx(end, rel=1e-10)
    for one, other in zip(large.parameters(), small.parameters(), strict=True):
        assert torch.allclose(one, s * other, rtol=1e-10, atol=1e-13)


def test_b4_a_small_initialisation_is_needed():
    """With lr·γ fixed, the error falls as γ grows from 0.1 (large initialisation, which diverges) to 10."""
    ends = [end_of_run(128, gamma=gamma) for gamma in (0.1, 1.0, 10.0)]
    assert ends[0] == DIVERGED
    assert ends[2] < 0.6 * ends[1] < 0.12


def test_b5_it_only_works_for_large_instances():
    ends = [end_of_run(d) for d in (32, 64, 128)]
    assert ends[0] > 0.9
    assert ends[0] > ends[1] > ends[2]
    assert ends[2] < 0.15


def last_error(network, optimizer, window=20):
    """Σ(y−p)²/Σy² of minibatches before they are learned from, mean of the last ones; loss summed over B."""
    data, loss, errors = instance(256, gamma=0.04, batch_size=32), HalfSquaredError(), []
    for pairs, y in data.train_dataloader():
        outputs = network(pairs)
        errors.append(relative_squared_error(loss(outputs, y).detach(), y).item())
        optimizer.zero_grad()
        (len(y) * loss(outputs, y)).backward()
        optimizer.step()
    return sum(errors[-window:]) / window


def deep_network(normalization):
    torch.manual_seed(derive_key(0, "initialisation").lo)
    return BilinearForm(NormalizedStack(256, 3, normalization))


def test_b6_depth_relu_batchnorm_and_momentum_learn_it_too():
    """The small instance of the CNN setup: L = 3, d = 256, r = 2, B = 32, 1024 steps."""
    network = deep_network("batchnorm")
    assert last_error(network, torch.optim.SGD(network.parameters(), lr=1e-5, momentum=0.9)) < 0.25


def test_b7_depth_relu_layernorm_and_adam_learn_it_too():
    """The small instance of the transformer setup."""
    network = deep_network("layernorm")
    assert last_error(network, torch.optim.Adam(network.parameters(), lr=4e-3)) < 0.2
