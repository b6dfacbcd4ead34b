"""Steps of some runs by torch's own optimizer and by the update rule that stands for it.

Gradients are drawn by step and run, and the rate of each run is halved after some steps.
"""

import torch
from cases import RULES, optimizer_settings
from torch import Tensor
from torch.optim import Optimizer

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


def assert_rule_is_torchs(optimizer: type[Optimizer], settings: list[dict[str, object]]) -> None:
    """Six steps of runs with these settings; also those after two that torch's optimizer made."""

    def made() -> list[Optimizer]:
        return [optimizer(parameters(k), lr=LRS[k], **own) for k, own in enumerate(settings)]

    expected, whole, continued, stacked = made(), made(), made(), len(settings) > 1
    step_by_torch(expected, range(STEPS))
    step_by_rule(whole, range(STEPS), stacked)
    step_by_torch(continued, range(HANDED_OVER))
    step_by_rule(continued, range(HANDED_OVER, STEPS), stacked)
    for k in range(len(settings)):
        assert_same(whole[k], expected[k])
        assert_same(continued[k], expected[k])
