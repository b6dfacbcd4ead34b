"""An update rule: an optimizer as a function of (parameters, gradient, state, hyper-parameters), for many
runs.

A rule does what torch's optimizer of the same name does, on parameters stacked over runs: ``[K, ...]`` with
hyper-parameters ``[K]``, or ``[...]`` with hyper-parameters ``[]`` for one run alone. Those of each run
(learning rate, momentum, decay) are read from its own torch optimizer, and the state stays in it, so
checkpoints are those of torch. Each rule is one file of this folder, which finds it by itself.

An optimizer that torch does not have is a ``RuleOptimizer`` beside its rule, and steps by it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

Hyperparameters = dict[str, Tensor]
State = dict[str, list[Tensor]]


class UpdateRule(ABC):
    """One update, in place.

    Args:
        groups: the param_group of each run's optimizer.
    """

    optimizers: ClassVar[tuple[type[Optimizer], ...]]
    """The optimizers of torch that this rule stands for."""
    unsupported: ClassVar[tuple[str, ...]]
    """Settings of these optimizers that the rule does not have."""
    common: ClassVar[tuple[str, ...]] = ()
    """Settings that stacked runs have in common."""
    constant: ClassVar[bool] = False
    """Whether the hyper-parameters are the same at every step, but for schedules."""
    counts_steps: ClassVar[bool] = False
    """Whether the optimizer keeps the number of its updates in its state."""

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        self.state_names: tuple[str, ...] = ()
        """What the optimizer keeps of each parameter, of its shape and 0 at first."""
        self.number_names: tuple[str, ...] = ()
        """Of these, what is one number for each parameter."""

    @abstractmethod
    def hyperparameters(self, group: dict[str, Any], step: int) -> dict[str, float]:
        """What update number ``step``, counted from 0, needs of a run's param_group."""

    @abstractmethod
    def update(
        self, parameters: list[Tensor], gradient: list[Tensor], state: State, given: Hyperparameters
    ) -> None:
        """Change parameters and state."""


class RuleOptimizer(Optimizer):
    """An optimizer of torch that steps by an update rule, for runs that are trained one at a time.

    A subclass says in ``rule`` which one it is, and gives its settings to torch as ``defaults``.
    """

    @abstractmethod
    def rule(self, group: dict[str, Any]) -> UpdateRule:
        """The rule of one param_group."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of each group; parameters without a gradient stay as they are.

        Args:
            closure: evaluates the loss anew, and with it the gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._step(self.rule(group), group, parameters)
        return loss

    def _step(self, rule: UpdateRule, group: dict[str, Any], parameters: list[Tensor]) -> None:
        states = [self.state[p] for p in parameters]
        for p, own in zip(parameters, states, strict=True):
            for name in rule.state_names:
                if name not in own:
                    own[name] = p.new_zeros(()) if name in rule.number_names else torch.zeros_like(p)
        done = int(states[0].get("step", 0))
        given = {
            name: torch.as_tensor(value, dtype=parameters[0].dtype, device=parameters[0].device)
            for name, value in rule.hyperparameters(group, done).items()
        }
        gradient = [p.grad for p in parameters if p.grad is not None]
        held = {name: [own[name] for own in states] for name in rule.state_names}
        rule.update([p.detach() for p in parameters], gradient, held, given)
        if rule.counts_steps:
            for own in states:
                own["step"] = torch.tensor(float(done + 1))
