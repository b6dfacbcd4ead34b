"""Draws of gradients whose noise is known, and how often an interval holds the truth."""

import math

import torch

from sgdlit.measures.gradient_noise import NoiseScale, gradient_noise
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
