"""Property tests of the suite with many more examples, and update rules at settings drawn at random."""

import importlib
import inspect
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cases import RULES, optimizer_settings
from hypothesis import HealthCheck, settings
from rule_runs import LRS, assert_rule_is_torchs, possible, supported

UNIT = Path(__file__).parent.parent / "unit"
MANY = settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def property_tests() -> Iterator[tuple[str, Callable[[], None]]]:
    """Those of the unit tests that take nothing but what hypothesis draws."""
    sys.path.insert(0, str(UNIT))
    for path in sorted(UNIT.glob("test_*.py")):
        if "from hypothesis import" in path.read_text(encoding="utf-8"):
            for name, test in vars(importlib.import_module(path.stem)).items():
                if getattr(test, "is_hypothesis_test", False) and not inspect.signature(test).parameters:
                    yield f"{path.stem}:{name}", test


PROPERTIES = dict(property_tests())


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_holds_of_two_thousand_examples(name, monkeypatch):
    monkeypatch.setattr(PROPERTIES[name], "_hypothesis_internal_use_settings", MANY)
    PROPERTIES[name]()


def drawn(rng: random.Random, value: Any) -> Any:
    """A switch as it comes; a number between 0 and one and a half times another; some numbers, below 1."""
    if isinstance(value, bool):
        return rng.random() < 0.5
    if isinstance(value, tuple):
        return tuple(rng.random() for _ in value)
    return 1.5 * rng.random() * value


@pytest.mark.parametrize("optimizer", RULES, ids=lambda optimizer: optimizer.__name__)
def test_a_rule_is_torchs_own_optimizer_at_any_settings(optimizer):
    rng, done = random.Random(3), 0
    every = supported(optimizer)
    common = {name for name, v in every.items() if isinstance(v, bool) or name in RULES[optimizer].common}
    assert every.keys() <= optimizer_settings(optimizer).keys()
    while done < 300:
        shared = {name: drawn(rng, every[name]) for name in sorted(common)}
        runs = [
            shared | {name: drawn(rng, v) for name, v in every.items() if name not in common} for _ in LRS
        ]
        if all(possible(optimizer, own) for own in runs):
            assert_rule_is_torchs(optimizer, runs)
            done += 1
