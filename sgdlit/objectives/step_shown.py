"""What the own backward pass of a step shows, to those who look at the step while it is taken."""

from typing import Literal, NamedTuple

from torch import Tensor

from sgdlit.data.batches import Batch

Kind = Literal["norms", "gradient"]
"""What can be seen: norms of the gradients of single examples, or the gradient of the batch."""


class StepNorms(NamedTuple):
    """‖∇C_i‖² of the n examples of a step's batch, ``[n]``, and ‖∇C‖² of their mean, ``[]``; float64."""

    squared_norms: Tensor
    of_mean: Tensor


class StepGradient(NamedTuple):
    """∇C of a step's batch by the parameter's name, and the batch. They are seen before the update, and hold
    until then. ``drawn`` says whether the network drew random numbers meanwhile."""

    gradient: dict[str, Tensor]
    batch: Batch
    drawn: bool


Shown = StepNorms | StepGradient
