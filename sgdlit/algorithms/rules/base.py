"""An update rule: an optimizer as a function of (parameters, gradient, state, hyper-parameters), for many
runs.

A rule does what torch's optimizer of the same name does, on parameters stacked over runs: ``[K, ...]`` with
hyper-parameters ``[K]``, or ``[...]`` with hyper-parameters ``[]`` for one run alone. Those of each run
(learning rate, momentum, decay) are read from its own torch optimizer, and the state stays in it, so
checkpoints are those of torch. Each rule is one file of this folder, which finds it by itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

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

    @abstractmethod
    def hyperparameters(self, group: dict[str, Any], step: int) -> dict[str, float]:
        """What update number ``step``, counted from 0, needs of a run's param_group."""

    @abstractmethod
    def update(
        self, parameters: list[Tensor], gradient: list[Tensor], state: State, given: Hyperparameters
    ) -> None:
        """Change parameters and state."""
