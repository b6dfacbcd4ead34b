"""How often intervals hold the truth, over 400 draws: a command of its own, ``pytest tests/long``."""

import pytest
from noise_draws import (
    coverage,
    coverage_of_batch_sharpness,
    coverage_of_curvature_noise,
    coverage_of_gap,
    coverage_of_steps,
)


@pytest.mark.parametrize("examples", [64, 256])
def test_the_noise_scale_lies_in_its_interval(examples):
    assert 0.92 <= coverage(examples, 400) <= 0.98


@pytest.mark.parametrize("steps", [60, 200])
def test_the_noise_scale_of_steps_lies_in_its_interval(steps):
    assert 0.92 <= coverage_of_steps(400, steps) <= 0.98


@pytest.mark.xfail(strict=True, reason="0.91 of 400: squares along few directions are skewed, 12 are few")
def test_noise_with_curvature_lies_in_its_interval():
    assert 0.92 <= coverage_of_curvature_noise(400) <= 0.98


def test_batch_sharpness_lies_in_its_interval():
    assert 0.92 <= coverage_of_batch_sharpness(400)[0] <= 0.98


@pytest.mark.xfail(strict=True, reason="0.89 of 400: the largest of 50 gradients decide it")
def test_the_ratio_of_means_lies_in_its_interval():
    assert 0.92 <= coverage_of_batch_sharpness(400)[1] <= 0.98


def test_the_gap_lies_in_its_interval():
    assert 0.92 <= coverage_of_gap(400) <= 0.98
