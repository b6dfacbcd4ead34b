"""What is differentiated? Losses, and the loss plus the explicit regularizer.

``penalty`` states the convention of the modified loss and holds its factors. ``modified_loss`` is the whole
of it in one line, for any training loop. An *objective* (``ExactPenalty``, ``FiniteDifferencePenalty``) is
called as objective(network, loss, inputs, targets, reg_strength), runs the network on the batches that its
``penalty_batch_size`` asks for, and returns an ``Evaluation`` whose ``loss`` is differentiated by
``backward``. A *strength* says what λ is at a step.
"""

from sgdlit.objectives.exact import ExactPenalty
from sgdlit.objectives.finite_difference import FiniteDifferencePenalty
from sgdlit.objectives.losses import (
    LOSSES,
    CrossEntropy,
    HalfSquaredError,
    Hinge,
    Logistic,
    Loss,
    NetworkOutput,
    loss_by_name,
)
from sgdlit.objectives.objective import Evaluation, Objective, frozen_statistics
from sgdlit.objectives.penalty import ModifiedLoss, modified_loss
from sgdlit.objectives.strength import (
    ConstantStrength,
    LinearRampStrength,
    PiecewiseStrength,
    Strength,
    TiedToLearningRate,
)

__all__ = [
    "LOSSES",
    "ConstantStrength",
    "CrossEntropy",
    "Evaluation",
    "ExactPenalty",
    "FiniteDifferencePenalty",
    "HalfSquaredError",
    "Hinge",
    "LinearRampStrength",
    "Logistic",
    "Loss",
    "ModifiedLoss",
    "NetworkOutput",
    "Objective",
    "PiecewiseStrength",
    "Strength",
    "TiedToLearningRate",
    "frozen_statistics",
    "loss_by_name",
    "modified_loss",
]
