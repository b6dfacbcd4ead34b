"""How many runs share a call of ``fit``: as many as pay for it, from the config alone."""

import pytest
from jsonargparse import Namespace

from sgdlit.config.axes import namespace
from sgdlit.sweeps.calls import MOST, USUAL, runs_in_a_call


def config(widths=(6, 8, 3), steps=40, batch_size=8, network="sgdlit.models.MLP", max_steps=-1) -> Namespace:
    built = {"class_path": network, "init_args": {"widths": list(widths)}}
    return namespace(
        {
            "model": {"class_path": "mine.Training", "init_args": {"network": built}},
            "data": {"class_path": "mine.Data", "init_args": {"batch_size": batch_size, "steps": steps}},
            "trainer": {"max_steps": max_steps},
        }
    )


def test_tiny_runs_share_a_call_and_others_stay_as_they_were():
    assert runs_in_a_call(config()) == MOST
    assert runs_in_a_call(config(max_steps=10)) == MOST
    assert runs_in_a_call(config(steps=10**6)) == USUAL
    assert runs_in_a_call(config([784, 4096, 4096, 4096, 10], 400)) == USUAL


def test_the_steps_of_a_call_take_two_seconds_as_they_are_guessed():
    """By hand: 32-64-10 has 2 762 parameters; a step at B = 100 is 10 µs + 3·2762·100·50 ps = 51.4 µs."""
    assert runs_in_a_call(config([32, 64, 10], 1000, 100)) == 39
    assert runs_in_a_call(config([32, 64, 10], 9999, 100, max_steps=1000)) == 39


@pytest.mark.parametrize(
    "unknown",
    [
        config(steps=None),
        config(network="sgdlit.models.NoSuch"),
        namespace({"model": None, "data": None, "trainer": {"max_steps": 10}}),
    ],
)
def test_what_is_not_known_changes_nothing(unknown):
    assert runs_in_a_call(unknown) == USUAL
