"""Draws of gradients whose noise is known, and how often an interval holds the truth."""

import math
from itertools import combinations

import numpy as np
import torch

from sgdlit.foundations.philox import derive_key
from sgdlit.measures import HessianProducts, curvature_noise, noise_of_batch, noise_of_steps, train_test_gap
from sgdlit.measures.batch_sharpness import batch_sharpness, drawn_minibatches
from sgdlit.measures.estimate import mean_of, ratio_of_means
from sgdlit.measures.gradient_noise import NoiseScale, gradient_noise
from sgdlit.measures.spectral_density import spectral_density_of
from sgdlit.measures.trace import trace_of
from sgdlit.models.quadratic import Quadratic
from sgdlit.objectives import loss_by_name

CURVATURES = [1.0, 0.5, 0.25, 0.125, 0.1]
VARIANCES = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.1], dtype=torch.float64)
THETA = torch.tensor([0.6, -0.4, 0.5, 1.0, -1.0], dtype=torch.float64)


def quadratic() -> Quadratic:
    """The noisy quadratic ½Σhθ² + eᵀθ at THETA: g_i = hθ + e_i, so that S² = Σc and ∇C = hθ."""
    network = Quadratic(len(CURVATURES), CURVATURES).double()
    network.theta.data.copy_(THETA)
    return network


def truth() -> float:
    """S²/‖∇C‖²."""
    gradient = torch.tensor(CURVATURES, dtype=torch.float64) * THETA
    return float(VARIANCES.sum() / gradient.square().sum())


def estimate(network: Quadratic, examples: int, draw: int) -> NoiseScale:
    """From fresh examples in chunks of 40."""
    generator = torch.Generator().manual_seed(1000 + draw)
    noise = torch.randn(examples, len(VARIANCES), generator=generator, dtype=torch.float64)
    inputs = (noise * VARIANCES.sqrt()).split(40)
    batches = [(x, torch.zeros(len(x), dtype=torch.float64)) for x in inputs]
    return gradient_noise(network, loss_by_name("network_output"), batches)


def coverage(examples: int, draws: int) -> float:
    """How often the 95 % interval of the noise scale holds the truth."""
    network, hits = quadratic(), 0
    for draw in range(draws):
        found = estimate(network, examples, draw)
        assert not math.isnan(found.low)
        hits += found.low <= truth() <= found.high
    return hits / draws


def coverage_of_steps(draws: int, steps: int, batch_size: int = 32) -> float:
    """How often the interval from the parts of one batch at each of some steps holds the truth."""
    network, hits = quadratic(), 0
    for draw in range(draws):
        generator = torch.Generator().manual_seed(2000 + draw)
        noise = torch.randn(steps, batch_size, len(VARIANCES), generator=generator, dtype=torch.float64)
        targets = torch.zeros(batch_size, dtype=torch.float64)
        loss = loss_by_name("network_output")
        found = [noise_of_batch(network, loss, (x * VARIANCES.sqrt(), targets)) for x in noise]
        _, low, high = noise_of_steps(*zip(*found, strict=True))
        hits += low <= truth() <= high
    return hits / draws


def coverage_of_curvature_noise(draws: int, probes: int = 12) -> float:
    """How often the interval of tr(HΣ̂) over random signs holds the truth, for 40 examples."""
    network, hits = quadratic(), 0
    noise = torch.randn(40, len(VARIANCES), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs = noise * VARIANCES.sqrt()
    centred = inputs - inputs.mean(0)
    expected = float((torch.tensor(CURVATURES, dtype=torch.float64) * centred.square().mean(0)).sum())
    batches = [(inputs, torch.zeros(40, dtype=torch.float64))]
    for draw in range(draws):
        found = curvature_noise(network, loss_by_name("network_output"), batches, probes, draw)
        hits += found.trace.low <= expected <= found.trace.high
    return hits / draws


def coverage_of_batch_sharpness(draws: int, minibatches: int = 100) -> tuple[float, float]:
    """How often the intervals of E[ĝᵀĤĝ/‖ĝ‖²] and of E ĝᵀĤĝ/E‖ĝ‖² hold the mean over all minibatches of two
    of 12 examples."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(12, generator=generator, dtype=torch.float64)
    network = torch.nn.Linear(3, 1, bias=False).double()
    torch.nn.init.constant_(network.weight, 0.5)
    loss = loss_by_name("half_squared_error")
    every = [(x[list(pair)], y[list(pair)]) for pair in combinations(range(12), 2)]
    whole = batch_sharpness(network, loss, every)
    truths, hits = (whole.mean.value, whole.of_means.value), [0, 0]
    for draw in range(draws):
        drawn = drawn_minibatches([(x, y)], 2, minibatches, derive_key(draw, "coverage"))
        found = batch_sharpness(network, loss, drawn)
        for k, (estimate, expected) in enumerate(zip((found.mean, found.of_means), truths, strict=True)):
            hits[k] += estimate.low <= expected <= estimate.high
    return hits[0] / draws, hits[1] / draws


def coverage_of_ratio(seed: int, minibatches: int, draws: int = 2000) -> float:
    """How often the interval of E ĝᵀĤĝ/E‖ĝ‖² holds it, for minibatches of two of 12 examples of least squares
    that ``seed`` decides."""
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(12, 3)), random.normal(size=12)
    pairs = np.array(list(combinations(range(12), 2)))
    gradients = (x[pairs] * (x[pairs].sum(-1, keepdims=True) / 2 - y[pairs, None])).mean(1)
    bent = np.einsum("kbd,kd->kb", x[pairs], gradients)
    along, length = (torch.from_numpy(each) for each in ((bent**2).mean(1), (gradients**2).sum(1)))
    chosen, truth = torch.from_numpy(random.integers(0, len(pairs), (draws, minibatches))), along.mean()
    found = [ratio_of_means(along[k], length[k]) for k in chosen]
    return sum(each.low <= float(truth / length.mean()) <= each.high for each in found) / draws


def hessian(size: int) -> HessianProducts:
    """That of least squares with correlated inputs, by ``size`` weights."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, size, generator=generator, dtype=torch.float64) + 0.5
    y = torch.zeros(20, dtype=torch.float64)
    network = torch.nn.Linear(size, 1, bias=False).double()
    return HessianProducts(network, loss_by_name("half_squared_error"), [(x, y)])


def coverage_of_trace(draws: int, probes: int = 12) -> tuple[float, float]:
    """How often the intervals of tr H and of ‖H‖²_F over random signs hold the truth."""
    matrix, hits = hessian(8), [0, 0]
    dense = matrix @ torch.eye(8, dtype=torch.float64)
    truths = float(dense.trace()), float(dense.square().sum())
    for draw in range(draws):
        found = trace_of(matrix, probes, draw)
        for k, (estimate, expected) in enumerate(zip((found.trace, found.squared_norm), truths, strict=True)):
            hits[k] += estimate.low <= expected <= estimate.high
    return hits[0] / draws, hits[1] / draws


def coverage_of_share(draws: int, starts: int = 10) -> float:
    """How often the interval of the share of eigenvalues below a number holds it: 4 of 5."""
    matrix, hits = hessian(5), 0
    values = torch.linalg.eigvalsh(matrix @ torch.eye(5, dtype=torch.float64))
    below = float(values[-2:].mean())
    for draw in range(draws):
        found = mean_of(spectral_density_of(matrix, 5, starts, draw).share_below(below))
        hits += found.low <= 0.8 <= found.high
    return hits / draws


def coverage_of_gap(draws: int, examples: int = 200) -> float:
    """How often the interval of the gap holds the truth: losses ½x² of N(0, 1), so a gap of 0.5·(s² − 1)
    between test inputs of standard deviation s and training ones of 1."""
    network, loss, hits = torch.nn.Linear(1, 1, bias=False).double(), loss_by_name("half_squared_error"), 0
    torch.nn.init.ones_(network.weight)
    targets = torch.zeros(examples, dtype=torch.float64)
    for draw in range(draws):
        generator = torch.Generator().manual_seed(3000 + draw)
        x = torch.randn(2, examples, 1, generator=generator, dtype=torch.float64)
        found = train_test_gap(network, loss, [(x[0], targets)], [(1.2 * x[1], targets)])
        hits += found.low <= 0.5 * (1.2**2 - 1) <= found.high
    return hits / draws
