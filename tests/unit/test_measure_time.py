"""The share of a run that measures take is one of the processors' time: waiting adds nothing."""

import time

import pytest

from sgdlit.training.measure_time import MeasureTime


def compute(seconds: float) -> None:
    """So much of the processors' time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_the_share_is_that_of_the_processors_time_without_evaluations():
    found = MeasureTime()
    compute(0.06)
    found.begin("evaluations")
    compute(0.05)
    found.end()
    found.begin("measures")
    compute(0.03)
    time.sleep(0.2)  # as of a machine that others use
    found.end()
    assert found.share == pytest.approx(0.5, abs=0.05)
    assert found.of_measures >= 0.23
