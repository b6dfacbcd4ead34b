"""How often intervals hold the truth, over 400 draws: a command of its own, ``pytest tests/long``."""

import pytest
from noise_draws import (
    coverage,
    coverage_of_batch_sharpness,
    coverage_of_curvature_noise,
    coverage_of_gap,
    coverage_of_ratio,
    coverage_of_share,
    coverage_of_steps,
    coverage_of_trace,
)


@pytest.mark.parametrize("examples", [64, 256])
def test_the_noise_scale_lies_in_its_interval(examples):
    assert 0.92 <= coverage(examples, 400) <= 0.98


@pytest.mark.parametrize("steps", [60, 200])
def test_the_noise_scale_of_steps_lies_in_its_interval(steps):
    assert 0.92 <= coverage_of_steps(400, steps) <= 0.98


@pytest.mark.parametrize("probes", [12, 30])
def test_noise_with_curvature_lies_in_its_interval(probes):
    assert 0.92 <= coverage_of_curvature_noise(400, probes) <= 0.98


def test_batch_sharpness_and_the_ratio_of_means_lie_in_their_intervals():
    of_mean, of_means = coverage_of_batch_sharpness(400)
    assert 0.92 <= of_mean <= 0.98
    assert 0.92 <= of_means <= 0.98


@pytest.mark.parametrize("seed", range(6))
def test_the_ratio_of_means_lies_in_its_interval(seed):
    """From 100 minibatches on. Where one of the 66 possible ones decides the ratio, 50 miss it in half of the
    repetitions, and no interval can know of it: below 100 it is infinite."""
    assert 0.92 <= coverage_of_ratio(seed, 100) <= 0.98
    assert coverage_of_ratio(seed, 99) == 1


def test_trace_and_squared_norm_lie_in_their_intervals():
    of_trace, of_norm = coverage_of_trace(400)
    assert 0.92 <= of_trace <= 0.98
    assert 0.92 <= of_norm <= 0.98


def test_the_share_of_eigenvalues_lies_in_its_interval():
    assert 0.92 <= coverage_of_share(400) <= 0.98


def test_the_gap_lies_in_its_interval():
    assert 0.92 <= coverage_of_gap(400) <= 0.98
