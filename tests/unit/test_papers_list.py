"""The vectorised loops of the list's studies against plain ones: torch's autograd, one run at a time."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sgdlit.data.depletion import Depletion
from sgdlit.foundations.errors import UserError
from sgdlit.models.diagonal import DiagonalLinear
from sgdlit.models.mean_field import MeanField
from sgdlit.models.perceptron import Perceptron
from sgdlit.objectives import loss_by_name
from sgdlit.papers import (
    andriushchenko2023,
    block2023,
    dexter2024,
    glasgow2023,
    ivgi2023,
    raj2023,
    sclocchi2023,
    shevchenko2019,
)
from sgdlit.papers.paper import Workshop, silent
from sgdlit.theory.draws import generator

ALONE = Workshop()


def test_a_step_on_xor_is_sgd_on_the_mean_field_network():
    """Rate 0.1·p on the logistic loss, for two networks at once."""
    torch.manual_seed(0)
    p, d = 64, 6
    networks = [MeanField(d, p, start="sphere", scale=0.7, bias=False) for _ in range(2)]
    x, y = torch.randn(2, 5, d).sign(), torch.randn(2, 5).sign()
    w, a = (torch.stack([getattr(n, name).detach().clone() for n in networks]) for name in ("w", "a"))
    for frozen in (True, False):
        moved, changed = glasgow2023._step(w, a, x, y, frozen)
        for k, network in enumerate(networks):
            loss = loss_by_name("logistic")(network(x[k]), y[k])
            of_w, of_a = torch.autograd.grad(loss, [network.w, network.a])
            expected = w[k] if frozen else w[k] - 0.1 * p * of_w
            torch.testing.assert_close(moved[k], expected, rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(changed[k], a[k] - 0.1 * p * of_a, rtol=1e-5, atol=1e-7)


def test_the_start_on_the_sphere_learns_nothing_of_the_answer():
    rows = glasgow2023.train_from_sphere(5, seeds=2)
    first = [row for row in rows if row["step"] == 0]
    assert all(0 < row["share"] < 0.8 for row in first)
    assert {row["samples"] for row in rows} == {4 * k * 40 for k in range(len(rows) // 2)}


def test_diagonal_networks_at_many_rates_are_each_one_of_torch():
    data = [andriushchenko2023._examples(seed) for seed in (0, 1)]
    settings = [andriushchenko2023._Setting(0.05, 0.5, 0.1), andriushchenko2023._Setting(0.2, 0.25, 0.05)]
    steps = 240
    beta, curves = andriushchenko2023.train(data, settings, steps, silent)
    assert curves.shape == (2, 2, andriushchenko2023._CURVE + 1)
    for seed, ((x, y), _) in enumerate(data):
        draw, each = generator(seed, "large rates, visits"), steps // andriushchenko2023._CURVE
        visits = np.concatenate([draw.integers(0, len(x), each) for _ in range(andriushchenko2023._CURVE)])
        for k, setting in enumerate(settings):
            network = DiagonalLinear(x.shape[1], 0.1).double()
            for t, i in enumerate(visits):
                lr = setting.rate if t < setting.held * steps else setting.then
                optimizer = torch.optim.SGD(network.parameters(), lr=lr)
                loss = 0.5 * (network(torch.from_numpy(x[i : i + 1]))[0, 0] - y[i]) ** 2
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            found = network.coefficients.detach().numpy()
            np.testing.assert_allclose(beta[seed, k], found, rtol=1e-7, atol=1e-10)
            losses = 0.5 * ((x @ found - y) ** 2).mean()
            assert curves[seed, k, -1] == pytest.approx(losses, rel=1e-7)
            assert curves[seed, k, 0] == pytest.approx(0.5 * (y**2).mean())


def test_perceptrons_are_each_one_of_torch_with_the_hinge_loss():
    """Margin 1 and a rate of 128·η is margin 1/128 and η, for 128·w: 400 steps of two runs, to the same w."""
    runs = [sclocchi2023._Run(0, 2.0, 64, 3), sclocchi2023._Run(1, 0.5, 40, 1)]
    weights, steps = sclocchi2023.train_to_zero_loss(runs, 400, silent)
    for run, w, taken in zip(runs, weights, steps, strict=True):
        data = Depletion(16, run.chi, steps=1, dtype="float64", seed=run.seed)
        x, y = data.draw("train", torch.arange(run.examples))
        purpose = f"depletion visits, χ = {run.chi}, T = {run.temperature}, P = {run.examples}"
        draw, network, loss = generator(run.seed, purpose), Perceptron(16).double(), loss_by_name("hinge")
        optimizer = torch.optim.SGD(network.parameters(), lr=128 * run.temperature * 2)
        step = 0
        while step < 400:
            for chosen in draw.integers(0, run.examples, (200, 2)):
                optimizer.zero_grad()
                loss(network(x[chosen]), y[chosen]).backward()
                optimizer.step()
            step += 200
            if float(loss(network(x), y).detach()) == 0:
                break
        assert taken == step
        np.testing.assert_allclose(w, network.w.detach().numpy() / 128, rtol=1e-9, atol=1e-12)


def test_cloning_is_sgd_and_its_average():
    k, average = block2023.clone(2, 0.1, 50)
    drawn = generator(1, "cloned actions").standard_normal((50, 2, 8))
    gain = mean = 0.0
    for x, noise in drawn:
        residual = gain * x - (-0.1 * x + 0.5 * noise)
        gain -= 0.1 * (residual * x).mean()
        mean = 0.99 * mean + 0.01 * gain
    assert k[1, -1] == pytest.approx(gain, rel=1e-12)
    assert average[1, -1] == pytest.approx(mean, rel=1e-12)


def test_mean_field_solutions_are_those_of_torch():
    """One of two solutions of a seed: 30 steps of SGD at rate 0.04·N, linearly to 0."""
    width, steps = 8, 30
    found = shevchenko2019.train(width, 1, steps)
    draw = generator(0, f"mean-field solution 1, N = {width}")
    network = MeanField(10, width)
    with torch.no_grad():
        for p, scale in ((network.w, 1.5 / 10**0.5), (network.b, 0.5), (network.a, 1.5)):
            p.copy_(scale * torch.from_numpy(draw.standard_normal(p.shape, dtype=np.float32)))
    inputs = torch.from_numpy(draw.standard_normal((100, 32, 10), dtype=np.float32))
    directions = shevchenko2019._directions(1).float()
    for step in range(steps):
        x = inputs[step]
        y = torch.tanh(2 * x @ directions[0].T / 10**0.5).sum(1)
        loss = F.mse_loss(network(x)[:, 0], y) / 2
        rate = 0.04 * width * (1 - step / steps)
        slopes = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for p, slope in zip(network.parameters(), slopes, strict=True):
                p -= rate * slope
    for p, q in zip(found, (network.w, network.b, network.a), strict=True):
        torch.testing.assert_close(p[0, 1], q.detach(), rtol=1e-4, atol=1e-5)


def test_options_that_cannot_be_used_are_refused():
    for paper, options, named in (
        (dexter2024.measure_runs, dexter2024.Options(runs=10, median_runs=20), "median_runs = 20"),
        (andriushchenko2023.measure, andriushchenko2023.Options(steps=10), "steps = 10"),
        (block2023.measure, block2023.Options(steps=10), "steps = 10"),
        (shevchenko2019.measure, shevchenko2019.Options(widths=[100]), r"widths = \[100\]"),
    ):
        with pytest.raises(UserError, match=named):
            paper(options, ALONE)


def test_without_its_average_dog_fails_its_claim(monkeypatch):
    """At γ = −0.9 the average is nearly the last iterate."""
    from sgdlit.theory import distance_over_gradients

    options = ivgi2023.Options(seeds=1, steps=2000)
    monkeypatch.setattr(distance_over_gradients, "_GAMMA", -0.9)
    findings = ivgi2023.measure(options, ALONE).findings
    assert not all(finding.holds for finding in findings if finding.claim == "L16a")


def test_gaps_have_a_row_for_each_regime_and_index():
    evidence = raj2023.measure_gaps(raj2023.Options(seeds=1, noisy_runs=10, steps=100), ALONE)
    assert len(evidence.tables["gaps"]) == 2 * len(raj2023._ALPHAS)
    assert [finding.claim for finding in evidence.findings] == ["L31b"] * 3
