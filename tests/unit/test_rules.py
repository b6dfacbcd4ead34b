"""Every update rule against torch's own optimizer: parameters and state, of stacked runs and of one alone.

Rules are found by themselves, and their settings in the signature of the optimizer: each switch turned, each
number changed, alone, in pairs and all at once. What a rule does not have it refuses by name.
"""

import pytest
import torch
from cases import RULES, changed, combinations, optimizer_settings
from torch import Tensor
from torch.optim import SGD, Optimizer

from sgdlit.algorithms import rules

LRS = (0.1, 0.02, 0.3)
STEPS, HANDED_OVER, LR_HALVED = 6, 2, 4
SHAPES = ((4, 3), (5,), ())


def supported(optimizer: type[Optimizer]) -> dict[str, object]:
    unsupported = RULES[optimizer].unsupported
    return {name: v for name, v in optimizer_settings(optimizer).items() if name not in unsupported}


def possible(optimizer: type[Optimizer], settings: dict[str, object]) -> bool:
    """Whether torch takes these settings together."""
    try:
        optimizer([torch.zeros(1)], **settings)
    except ValueError:
        return False
    return True


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


def parameters(k: int) -> list[Tensor]:
    """Of run k; the second is frozen."""
    generator = torch.Generator().manual_seed(k)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    return [tensor.requires_grad_(i != 1) for i, tensor in enumerate(drawn)]


def gradient(step: int, k: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 * step + k + 10)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    return [drawn[0], drawn[2]]


def trainable(optimizer: Optimizer) -> list[Tensor]:
    return [p for p in optimizer.param_groups[0]["params"] if p.requires_grad]


def step_by_torch(optimizers: list[Optimizer], steps: range) -> None:
    for step in steps:
        for k, optimizer in enumerate(optimizers):
            optimizer.param_groups[0]["lr"] = LRS[k] / (2 if step >= LR_HALVED else 1)
            for p, g in zip(trainable(optimizer), gradient(step, k), strict=True):
                p.grad = g
            optimizer.step()
            optimizer.zero_grad()


def step_by_rule(optimizers: list[Optimizer], steps: range, stacked: bool) -> None:
    """What an engine does: parameters and state are stacked over the runs, or those of the only run."""
    rule, each = rules.rule_of(optimizers), [trainable(optimizer) for optimizer in optimizers]
    stacks = [torch.stack([p.detach() for p in parts]) for parts in zip(*each, strict=True)]
    state = rules.gather_state(rule, optimizers, stacks)
    own = stacks if stacked else [p[0] for p in stacks]
    held = state if stacked else {name: [t[0] for t in tensors] for name, tensors in state.items()}
    for step in steps:
        found = []
        for k, optimizer in enumerate(optimizers):
            optimizer.param_groups[0]["lr"] = LRS[k] / (2 if step >= LR_HALVED else 1)
            found.append(rule.hyperparameters(optimizer.param_groups[0], step))
        given = {name: torch.tensor([one[name] for one in found], dtype=torch.float64) for name in found[0]}
        drawn = [gradient(step, k) for k in range(len(optimizers))]
        gradients = [torch.stack(parts) for parts in zip(*drawn, strict=True)]
        if not stacked:
            given, gradients = {n: v[0] for n, v in given.items()}, [g[0] for g in gradients]
        rule.update(own, gradients, held, given)
    rules.write_step(rule, optimizers, steps.stop)
    for k, tensors in enumerate(each):
        for p, stack in zip(tensors, stacks, strict=True):
            p.data.copy_(stack[k])


def assert_same(found: Optimizer, expected: Optimizer) -> None:
    """Parameters, and all of the state that torch's optimizer has, to 1e-12."""
    tolerance = {"rtol": 1e-12, "atol": 1e-12}
    for p, q in zip(found.param_groups[0]["params"], expected.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(p, q, **tolerance)
        assert found.state[p].keys() >= {n for n, v in expected.state[q].items() if v is not None}
        for name, value in expected.state[q].items():
            if value is not None:
                torch.testing.assert_close(
                    torch.as_tensor(found.state[p][name]).double(), torch.as_tensor(value).double(),
                    msg=lambda text, name=name: f"state {name}: {text}", **tolerance,
                )  # fmt: skip


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize(("optimizer", "settings"), CASES, ids=named)
def test_a_rule_is_torchs_own_optimizer(optimizer, settings, runs):
    """Six steps with a rate that is halved meanwhile; also those after two that torch's optimizer made."""

    def made() -> list[Optimizer]:
        return [
            optimizer(parameters(k), lr=LRS[k], **settings_of(optimizer, settings, k)) for k in range(runs)
        ]

    expected, whole, continued = made(), made(), made()
    step_by_torch(expected, range(STEPS))
    step_by_rule(whole, range(STEPS), stacked=runs > 1)
    step_by_torch(continued, range(HANDED_OVER))
    step_by_rule(continued, range(HANDED_OVER, STEPS), stacked=runs > 1)
    for k in range(runs):
        assert_same(whole[k], expected[k])
        assert_same(continued[k], expected[k])


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
