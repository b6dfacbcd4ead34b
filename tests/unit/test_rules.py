"""Every update rule against torch's own optimizer: parameters and state, of stacked runs and of one alone.

Rules are found by themselves, and their settings in the signature of the optimizer: each switch turned, each
number changed, alone, in pairs and all at once. What a rule does not have it refuses by name.
"""

import pytest
import torch
from cases import RULES, changed, combinations, optimizer_settings
from rule_runs import assert_rule_is_torchs, parameters, possible, supported
from torch.optim import SGD, Optimizer

from sgdlit.algorithms import rules

CASES = [
    (optimizer, settings)
    for optimizer in RULES
    for settings in combinations(supported(optimizer))
    if possible(optimizer, settings)
]


def named(value: object) -> str:
    if isinstance(value, type):
        return value.__name__
    return ",".join(f"{name}={setting}" for name, setting in value.items()) or "defaults"


def settings_of(optimizer: type[Optimizer], settings: dict[str, object], k: int) -> dict[str, object]:
    """Those of run k: the numbers of run 1 differ, if runs may differ in them, and run 2 has the defaults."""
    free = {
        name
        for name, value in settings.items()
        if not isinstance(value, bool) and name not in RULES[optimizer].common
    }
    if k == 1:
        return {name: changed(value) if name in free else value for name, value in settings.items()}
    kept = {name: value for name, value in settings.items() if name not in free}
    return kept if k == 2 and possible(optimizer, kept) else settings


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize(("optimizer", "settings"), CASES, ids=named)
def test_a_rule_is_torchs_own_optimizer(optimizer, settings, runs):
    assert_rule_is_torchs(optimizer, [settings_of(optimizer, settings, k) for k in range(runs)])


@pytest.mark.parametrize("optimizer", RULES, ids=named)
def test_what_a_rule_has_is_taken_and_what_it_has_not_is_refused_by_name(optimizer):
    def made(settings: dict[str, object]) -> Optimizer:
        return optimizer(parameters(0), lr=0.1, **settings)

    for settings in combinations(supported(optimizer)):
        if possible(optimizer, settings):
            assert rules.obstacle([made(settings)]) is None
    settings = optimizer_settings(optimizer)
    for name in RULES[optimizer].unsupported:
        assert rules.obstacle([made({name: settings[name]})]) == f"{optimizer.__name__} has {name}"


@pytest.mark.parametrize("optimizer", RULES, ids=named)
def test_runs_that_one_rule_cannot_take_together_are_refused_by_name(optimizer):
    settings, plain = supported(optimizer), optimizer(parameters(0), lr=0.1)
    for name in RULES[optimizer].common:
        if name not in settings:
            continue
        others = [others for others in combinations(settings) if name in others]
        own = next(others for others in others if possible(optimizer, others))
        without = {other: value for other, value in own.items() if other != name}
        mixed = [optimizer(parameters(0), lr=0.1, **given) for given in (own, without)]
        assert rules.obstacle(mixed) == f"some runs have {name} and others do not"
    groups = optimizer([{"params": parameters(k)} for k in range(2)], lr=0.1)
    assert rules.obstacle([groups]) == f"{optimizer.__name__} has several groups of parameters"

    class Another(optimizer):
        """One without a rule."""

    another = Another(parameters(0), lr=0.1)
    assert "Another is not one of" in rules.obstacle([another])
    assert "different optimizers" in rules.obstacle([plain, another])


@pytest.mark.parametrize("optimizer", RULES, ids=named)
def test_constant_hyperparameters_are_the_same_at_every_step(optimizer):
    for settings in combinations(supported(optimizer)):
        if possible(optimizer, settings):
            group = optimizer(parameters(0), lr=0.1, **settings).param_groups[0]
            rule = RULES[optimizer]([group])
            at = [rule.hyperparameters(group, step) for step in (0, 7)]
            assert at[0].keys() == at[1].keys()
            assert at[0] == at[1] or not rule.constant


def test_the_settings_that_are_tried_are_those_of_the_field():
    assert set(optimizer_settings(SGD)) >= {"momentum", "nesterov", "weight_decay", "dampening"}
    assert set(optimizer_settings(torch.optim.Adam)) >= {"betas", "eps", "weight_decay", "amsgrad"}
