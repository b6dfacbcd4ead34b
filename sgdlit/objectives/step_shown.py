"""What the own backward pass of a step shows, to those who look at the step while it is taken."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import Tensor

from sgdlit.data.batches import Batch
from sgdlit.objectives.layer_factors import Factors

Kind = Literal["factors", "gradient"]
"""What can be seen: inputs and slopes of every linear layer, or the gradient of the batch."""


class StepGradient(NamedTuple):
    """∇C of a step's batch by the parameter's name, and the batch. They are seen before the update, and hold
    until then."""

    gradient: dict[str, Tensor]
    batch: Batch


Shown = Mapping[str, Factors] | StepGradient
"""Factors by the layer's name, or the gradient."""
