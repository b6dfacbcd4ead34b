"""Only the weights that matter most for the loss receive their gradient."""

from torch import Tensor

from sgdlit.algorithms.largest import largest
from sgdlit.algorithms.transforms.base import Examples, GradientTransform, State
from sgdlit.foundations.errors import UserError


class TopShare(GradientTransform):
    """The mean gradient on the Q weights with the largest |θ·∂C/∂θ| over all tensors, 0 on the others.

    Tensors of one dimension, such as biases, always receive theirs. With momentum and weight decay in the
    optimizer this is global sparse momentum SGD (Ding et al. 2019, 1909.12778).

    Args:
        share: Q over the number of all weights.

    Raises:
        UserError: a share not in (0, 1].
    """

    small = ({"share": 0.2},)

    def __init__(self, share: float) -> None:
        if not 0 < share <= 1:
            raise UserError(f"model.transform.share: {share} is not possible; allowed: above 0, at most 1")
        self.share = share

    def __call__(self, examples: Examples, state: State, step: int) -> tuple[Tensor, State]:
        gradient, weights = examples.mean_gradient(), examples.is_weight
        importance = (examples.parameters * gradient).abs().masked_fill(~weights, -1.0)
        count = round(self.share * int(weights.sum()))
        return gradient * (largest(importance, count) | ~weights), state
