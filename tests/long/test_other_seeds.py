"""``scripts/other_seeds.py``: a shift of 0 finds what the check finds, and another one other numbers."""

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY


def said(*arguments: str) -> str:
    command = [sys.executable, str(REPOSITORY / "scripts" / "other_seeds.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def of_the_check() -> str:
    """What fails of L20 with the seeds that are reported: L20d, by one instance."""
    return said("0", "dexter2024")


def test_the_seeds_that_are_reported_give_the_reported_verdicts(of_the_check):
    assert "another verdict" not in of_the_check
    assert of_the_check.count("dexter2024:") == 4
    assert "dexter2024:L20d: does not hold" in of_the_check
    assert "0.00253, 9 of 10 inside" in of_the_check


def test_other_seeds_draw_other_numbers(of_the_check):
    other = said("1000", "dexter2024")
    assert other.count("dexter2024:") == 4
    assert "0.00253" not in other


def test_a_claim_that_trains_through_a_command_is_left_out():
    assert "strohmer2009" not in said("0", "L36b", "--data", "nowhere")
    assert said("0", "L36b").startswith("xu2024:training: left out")
