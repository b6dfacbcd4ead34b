"""PyTorch's linear and convolutional layers, left for the network to initialise.

The originals draw initial values when they are built, and the network would draw again: then building a
network after seeding and calling ``reset_parameters`` after the same seeding would give different networks.
"""

from typing import Literal

from torch import nn

ClosedForm = Literal["chain", "bilinear", "diagonal"]


class Linear(nn.Linear):
    """``nn.Linear`` whose parameters are not set until the network's ``reset_parameters`` does."""

    def reset_parameters(self) -> None:
        pass


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` whose parameters are not set until the network's ``reset_parameters`` does."""

    def reset_parameters(self) -> None:
        pass


class ClosedFormNetwork(nn.Module):
    """A network whose gradient has a closed form, which ``sgdlit.algorithms.engines.rank_one`` writes out."""

    @property
    def closed_form(self) -> ClosedForm | None:
        """Which form: a ``chain`` of matrices, the ``bilinear`` form aᵀMb of a chain M, or a ``diagonal``
        network; None if this one has none."""
        return None
