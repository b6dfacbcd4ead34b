"""Optimizers as functions of (parameters, gradients, state, numbers), for many runs at once.

A rule does what torch's optimizer of the same name does, on parameters stacked over runs: ``[K, ...]`` with
numbers ``[K]``, or ``[...]`` with numbers ``[]`` for one run alone. The numbers of each run (rate, momentum,
decay) are read from its own torch optimizer, and the state stays in it, so checkpoints are those of torch.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from sgdlit.objectives.functional import spread

Numbers = dict[str, Tensor]
State = dict[str, list[Tensor]]


class UpdateRule(ABC):
    """One update, in place."""

    state_names: tuple[str, ...] = ()
    constant = False  # whether ``numbers`` are the same at every step

    @staticmethod
    @abstractmethod
    def refusal(group: dict[str, Any]) -> str | None:
        """Which setting of a torch optimizer this rule does not have; None if it has them all."""

    @abstractmethod
    def numbers(self, group: dict[str, Any], step: int) -> dict[str, float]:
        """What update number ``step``, counted from 0, needs of a run's param_group."""

    @abstractmethod
    def update(self, parameters: list[Tensor], gradient: list[Tensor], state: State, n: Numbers) -> None:
        """Change parameters and state."""


class SGDRule(UpdateRule):
    """θ ← θ − lr·(g + w·θ); with momentum μ, b ← μb + g + wθ and θ ← θ − lr·b, or with Nesterov g + wθ + μb.

    A run without momentum beside one that has it multiplies its buffer by 0.
    """

    constant = True

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        self.decays = any(group["weight_decay"] for group in groups)
        self.nesterov = groups[0]["nesterov"]
        self.state_names = ("momentum_buffer",) if any(group["momentum"] for group in groups) else ()

    @staticmethod
    def refusal(group: dict[str, Any]) -> str | None:
        return next((name for name in ("dampening", "maximize", "differentiable") if group[name]), None)

    def numbers(self, group: dict[str, Any], step: int) -> dict[str, float]:
        return {name: float(group[name]) for name in ("lr", "momentum", "weight_decay")}

    def update(self, parameters: list[Tensor], gradient: list[Tensor], state: State, n: Numbers) -> None:
        buffers = state.get("momentum_buffer", [None] * len(parameters))
        for p, g, buffer in zip(parameters, gradient, buffers, strict=True):
            if self.decays:
                g = g.addcmul(p, spread(n["weight_decay"], p))
            if buffer is not None:
                momentum = spread(n["momentum"], p)
                buffer.mul_(momentum).add_(g)
                g = g.addcmul(buffer, momentum) if self.nesterov else buffer
            p.addcmul_(g, spread(n["lr"], p), value=-1)


class AdamRule(UpdateRule):
    """Adam (Kingma & Ba 2015, algorithm 1), with weight decay in the gradient or, as in AdamW, beside it."""

    state_names = ("exp_avg", "exp_avg_sq")

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        self.decays = any(group["weight_decay"] for group in groups)
        self.decoupled = groups[0]["decoupled_weight_decay"]

    @staticmethod
    def refusal(group: dict[str, Any]) -> str | None:
        return next((name for name in ("amsgrad", "maximize", "differentiable") if group[name]), None)

    def numbers(self, group: dict[str, Any], step: int) -> dict[str, float]:
        (first, second), lr, decay = group["betas"], float(group["lr"]), group["weight_decay"]
        return {
            "keep_first": first,
            "keep_second": second,
            "new_first": 1 - first,
            "new_second": 1 - second,
            "eps": group["eps"],
            "size": lr / (1 - first ** (step + 1)),
            "root": math.sqrt(1 - second ** (step + 1)),
            "weight_decay": decay,
            "shrink": 1 - lr * decay,
        }

    def update(self, parameters: list[Tensor], gradient: list[Tensor], state: State, n: Numbers) -> None:
        for p, g, mean, square in zip(parameters, gradient, *map(state.get, self.state_names), strict=True):
            m = {name: spread(number, p) for name, number in n.items()}
            if self.decays and self.decoupled:
                p.mul_(m["shrink"])
            elif self.decays:
                g = g.addcmul(p, m["weight_decay"])
            mean.mul_(m["keep_first"]).addcmul_(g, m["new_first"])
            square.mul_(m["keep_second"]).addcmul_(g * g, m["new_second"])
            p.addcdiv_(mean * m["size"], square.sqrt().div_(m["root"]).add_(m["eps"]), value=-1)


RULES: dict[type[Optimizer], type[UpdateRule]] = {SGD: SGDRule, Adam: AdamRule, AdamW: AdamRule}
_SHARED = ("nesterov", "decoupled_weight_decay")  # flags that stacked runs have in common


def refusal(optimizers: Sequence[Optimizer]) -> str | None:
    """Why these optimizers cannot be one rule over stacked runs, in words; None if they can."""
    kinds = {type(optimizer) for optimizer in optimizers}
    names = " and ".join(sorted(kind.__name__ for kind in kinds))
    if len(kinds) > 1:
        return f"the runs have different optimizers ({names})"
    kind = next(iter(kinds))
    if kind not in RULES:
        return f"{names} is not one of {', '.join(rule.__name__ for rule in RULES)}"
    if any(len(optimizer.param_groups) > 1 for optimizer in optimizers):
        return f"{names} has several groups of parameters"
    groups = [optimizer.param_groups[0] for optimizer in optimizers]
    for group in groups:
        setting = RULES[kind].refusal(group)
        if setting is not None:
            return f"{names} has {setting}"
    mixed = [flag for flag in _SHARED if len({group.get(flag) for group in groups}) > 1]
    return f"some runs have {mixed[0]} and others do not" if mixed else None


def rule_of(optimizers: Sequence[Optimizer]) -> UpdateRule:
    """The rule that these optimizers, which :func:`refusal` has nothing against, have in common."""
    return RULES[type(optimizers[0])]([optimizer.param_groups[0] for optimizer in optimizers])


def gather_state(rule: UpdateRule, optimizers: Sequence[Optimizer], stacked: list[Tensor]) -> State:
    """The state of some runs, stacked as their parameters are, from now on shared with their optimizers.

    Args:
        rule: which state there is.
        optimizers: of the runs, whose state may be empty.
        stacked: the parameters that are optimized, ``[K, ...]`` each, in the optimizers' order.
    """
    state: State = {name: [torch.zeros_like(p) for p in stacked] for name in rule.state_names}
    for k, optimizer in enumerate(optimizers):
        parameters = [p for p in optimizer.param_groups[0]["params"] if p.requires_grad]
        for name, tensors in state.items():
            for p, tensor in zip(parameters, tensors, strict=True):
                held = optimizer.state[p].get(name)
                if held is not None:
                    tensor[k].copy_(held)
                optimizer.state[p][name] = tensor[k]
    return state


def write_step(optimizers: Sequence[Optimizer], step: int) -> None:
    """Tell optimizers that count their updates (Adam) that they have made ``step`` of them."""
    for optimizer in optimizers:
        if isinstance(optimizer, Adam | AdamW):
            for p in optimizer.param_groups[0]["params"]:
                if p.requires_grad:
                    optimizer.state[p]["step"] = torch.tensor(float(step))
