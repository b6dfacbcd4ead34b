"""Optimizers that look into the network whose parameters they move."""

from abc import ABC, abstractmethod

from torch import nn

from sgdlit.objectives import Loss


class WatchesNetwork(ABC):
    """An optimizer that is told its network and loss before the first step.

    It steps with a closure, inside which the network sees the step's examples, and works in one process.
    """

    @abstractmethod
    def watch(self, network: nn.Module, loss: Loss) -> None:
        """Look at this network from now on.

        Raises:
            UserError: one that the optimizer cannot work with.
        """
