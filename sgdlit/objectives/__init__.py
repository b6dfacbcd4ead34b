"""What is differentiated: losses, and the loss plus an explicit gradient penalty.

The convention everywhere: with strength λ and minibatch losses C_k over the batches that the penalty is taken
on, minimise mean_k (C_k + λ/4 ‖∇C_k‖²), whose gradient is mean_k (g_k + λ/2 H_k g_k) (Smith et al. 2021,
2101.12176, section 2.3; C_reg = ¼ mean_k ‖∇C_k‖² there).

``modified_loss`` is the whole of it in one line, for any training loop. An *objective* (``ExactPenalty``,
``FiniteDifferencePenalty``, ``CompiledPenalty``) is called as objective(network, loss, inputs, targets,
reg_strength), runs the network on the batches that its ``penalty_batch_size`` asks for, and returns an
``Evaluation`` whose ``loss`` is differentiated by ``backward``. A *strength* says what λ is at a step.
"""

from sgdlit.objectives import convolution
from sgdlit.objectives.compiled import CompiledPenalty
from sgdlit.objectives.exact import ExactPenalty
from sgdlit.objectives.finite_difference import FiniteDifferencePenalty
from sgdlit.objectives.losses import (
    LOSSES,
    CrossEntropy,
    HalfSquaredError,
    Logistic,
    Loss,
    NetworkOutput,
    loss_by_name,
)
from sgdlit.objectives.modified_loss import ModifiedLoss, modified_loss
from sgdlit.objectives.objective import Evaluation, Objective, frozen_statistics
from sgdlit.objectives.strength import (
    ConstantStrength,
    LinearRampStrength,
    PiecewiseStrength,
    Strength,
    TiedToLearningRate,
)

convolution.register()

__all__ = [
    "LOSSES",
    "CompiledPenalty",
    "ConstantStrength",
    "CrossEntropy",
    "Evaluation",
    "ExactPenalty",
    "FiniteDifferencePenalty",
    "HalfSquaredError",
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
