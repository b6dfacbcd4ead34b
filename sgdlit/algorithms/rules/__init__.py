"""What is an update? One rule per file; a file that is put here is found.

``rule_of`` gives the rule of some torch optimizers, and ``obstacle`` says why there is none.
"""

import pkgutil
from collections.abc import Sequence
from functools import cache
from importlib import import_module

import torch
from torch import Tensor
from torch.optim import Optimizer

from sgdlit.algorithms.rules.base import Hyperparameters, RuleOptimizer, State, UpdateRule

__all__ = [
    "Hyperparameters",
    "RuleOptimizer",
    "State",
    "UpdateRule",
    "gather_state",
    "obstacle",
    "rule_classes",
    "rule_of",
    "write_step",
]


@cache
def rule_classes() -> dict[type[Optimizer], type[UpdateRule]]:
    """The rule of each optimizer that has one: those of this folder, and of any module that is imported."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return {optimizer: rule for rule in UpdateRule.__subclasses__() for optimizer in rule.optimizers}


def obstacle(optimizers: Sequence[Optimizer]) -> str | None:
    """Why these optimizers cannot be one rule over stacked runs, in words; None if they can."""
    kinds = {type(optimizer) for optimizer in optimizers}
    names = " and ".join(sorted(kind.__name__ for kind in kinds))
    if len(kinds) > 1:
        return f"the runs have different optimizers ({names})"
    rule = rule_classes().get(next(iter(kinds)))
    if rule is None:
        return f"{names} is not one of {', '.join(kind.__name__ for kind in rule_classes())}"
    if any(len(optimizer.param_groups) > 1 for optimizer in optimizers):
        return f"{names} has several groups of parameters"
    groups = [optimizer.param_groups[0] for optimizer in optimizers]
    settings = [name for group in groups for name in rule.unsupported if group[name]]
    if settings:
        return f"{names} has {settings[0]}"
    mixed = [name for name in rule.common if len({group.get(name) for group in groups}) > 1]
    return f"some runs have {mixed[0]} and others do not" if mixed else None


def rule_of(optimizers: Sequence[Optimizer]) -> UpdateRule:
    """The rule of these optimizers, which :func:`obstacle` has nothing against."""
    return rule_classes()[type(optimizers[0])]([optimizer.param_groups[0] for optimizer in optimizers])


def gather_state(rule: UpdateRule, optimizers: Sequence[Optimizer], stacked: list[Tensor]) -> State:
    """The state of some runs, stacked as their parameters are, from now on shared with their optimizers.

    Args:
        rule: which state there is.
        optimizers: of the runs, whose state may be empty.
        stacked: the parameters that are optimized, ``[K, ...]`` each, in the optimizers' order.
    """
    state: State = {
        name: [p.new_zeros(len(p)) if name in rule.number_names else torch.zeros_like(p) for p in stacked]
        for name in rule.state_names
    }
    for k, optimizer in enumerate(optimizers):
        for name, tensors in state.items():
            for p, tensor in zip(_trainable(optimizer), tensors, strict=True):
                held = optimizer.state[p].get(name)
                if held is not None:
                    tensor[k].copy_(held)
                optimizer.state[p][name] = tensor[k]
    return state


def write_step(rule: UpdateRule, optimizers: Sequence[Optimizer], step: int) -> None:
    """Tell optimizers that count their updates that they have made ``step`` of them."""
    if rule.counts_steps:
        for optimizer in optimizers:
            for p in _trainable(optimizer):
                optimizer.state[p]["step"] = torch.tensor(float(step))


def _trainable(optimizer: Optimizer) -> list[Tensor]:
    return [p for p in optimizer.param_groups[0]["params"] if p.requires_grad]
