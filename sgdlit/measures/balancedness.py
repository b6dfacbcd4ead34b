"""Balancedness of the layers of a deep linear network, which gradient flow conserves."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.errors import UserError
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.models import DeepLinear
from sgdlit.models.sensing import BilinearForm


def balancedness(weights: Sequence[Tensor]) -> list[float]:
    """‖W_{l+1}ᵀW_{l+1} − W_lW_lᵀ‖_F, in θ², of each pair of successive matrices W_1, …, W_L; float64.

    0 where the layers are balanced. Under gradient flow the differences themselves do not change (Arora et
    al. 2018, 1802.06509, theorem 1).

    Args:
        weights: W_l, ``[n_l, n_{l−1}]``, of the product W_L … W_1.
    """
    whole = [weight.detach().double() for weight in weights]
    apart = [above.T @ above - below @ below.T for below, above in pairwise(whole)]
    return [float(torch.linalg.matrix_norm(difference)) for difference in apart]


def deep_linear_weights(network: nn.Module) -> list[Tensor]:
    """W_1, …, W_L of a deep linear network, or of one inside a bilinear form; none of others."""
    inner = network.net if isinstance(network, BilinearForm) else network
    return list(inner.weights) if isinstance(inner, DeepLinear) else []


class Balancedness(Measure):
    """``measure/imbalance/L`` ‖W_{L+1}ᵀW_{L+1} − W_LW_Lᵀ‖_F, L = 1 …, of a deep linear network."""

    formula = "‖W_{l+1}ᵀW_{l+1} − W_lW_lᵀ‖_F"
    answers = "how far are the layers of a deep linear network from balanced, and does training keep that"
    price = "0"
    logged = ("measure/imbalance/L",)

    def check(self, network: nn.Module, data: KeyedData) -> None:
        if len(deep_linear_weights(network)) < 2:
            raise UserError(
                f"Balancedness: {type(network).__name__} is no product of two matrices or more; allowed: "
                "sgdlit.models.DeepLinear, alone or in a sgdlit.models.sensing.BilinearForm"
            )

    def take(self, run: RunAtStep, member: int) -> Values:
        weights = deep_linear_weights(run.network)
        return {f"measure/imbalance/{k}": value for k, value in enumerate(balancedness(weights), start=1)}
