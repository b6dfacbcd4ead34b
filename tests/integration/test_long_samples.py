"""A few cases of each goal of ``python -m tests.long`` that needs no process of its own."""

import pytest
from long.__main__ import run
from long.goals import GOALS

SAMPLE = {"configs": 4, "damage": 2, "hostile": 4, "disk": 1}


@pytest.mark.parametrize("goal", [goal for goal in GOALS if goal.name in SAMPLE], ids=lambda goal: goal.name)
def test_a_sample(goal):
    done, wrong = run(goal, SAMPLE[goal.name], seconds=float("inf"), seed=1, alone=False)
    assert (done, wrong) == (SAMPLE[goal.name], [])
