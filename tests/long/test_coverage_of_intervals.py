"""How often intervals hold the truth, over 400 draws: a command of its own, ``pytest tests/long``."""

import pytest
from noise_draws import coverage


@pytest.mark.parametrize("examples", [64, 256])
def test_the_noise_scale_lies_in_its_interval(examples):
    assert 0.92 <= coverage(examples, 400) <= 0.98
