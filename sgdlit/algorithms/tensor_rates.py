"""Momentum SGD in which every parameter tensor has a rate of its own, set once."""

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from sgdlit.algorithms.by_tensor import ByTensor
from sgdlit.foundations.errors import UserError

Rates = Literal["g_snr", "sqrt_numel"]


def gradient_snr(gradient: Tensor, eps: float = 1e-8) -> Tensor:
    """g-SNR ‖g‖/(std(g) + ε) of a tensor, the deviation over its n entries (over n − 1 of them), a scalar.

    With the mean and the variance over n it is √(n − 1)·√(1 + mean²/variance): a number of the tensor's size
    wherever the mean is small beside the spread. A tensor of one entry has no deviation, and g-SNR 1 here.

    Source: Xu et al. 2024, 2412.11768.
    """
    if gradient.numel() == 1:
        return torch.ones_like(gradient).reshape(())
    return gradient.norm() / (gradient.std() + eps)


class TensorRates(ByTensor):
    """m ← μm + (1 − μ)g; θ ← (1 − lr·w)θ − lr·s·m, with a factor s for each tensor that never changes.

    With the g-SNR of the first gradient this is SGD-SaI (Xu et al. 2024, 2412.11768, algorithm 1), which
    keeps one number for each tensor beside the momentum. ``pytorch_optimizer.SGDSaI`` is another optimizer:
    there s of a vector is ‖g‖.

    Args:
        params: parameters, or groups of them.
        lr: of all tensors; schedules move it.
        momentum: μ.
        weight_decay: w.
        rates: s: ``g_snr`` of the first gradient; ``sqrt_numel`` √n for n entries; or one number for each
            tensor, in the order of the parameters.
        eps: added to the deviation in g-SNR.

    Raises:
        UserError: another number of rates than of tensors, or a number that is not possible.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        rates: Rates | list[float] = "g_snr",
        eps: float = 1e-8,
    ) -> None:
        if not 0 <= momentum < 1:
            raise UserError(f"optimizer.momentum: {momentum} is not possible; allowed: 0 or more, below 1")
        for name, value in (("lr", lr), ("weight_decay", weight_decay), ("eps", eps)):
            if not 0 <= value < math.inf:
                raise UserError(f"optimizer.{name}: {value} is not possible; allowed: 0 or more")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eps": eps})
        self.rates = rates
        tensors = sum(len(group["params"]) for group in self.param_groups)
        if isinstance(rates, list) and len(rates) != tensors:
            raise UserError(
                f"optimizer.rates: {len(rates)} numbers for {tensors} parameter tensors; allowed: one for "
                "each, g_snr or sqrt_numel"
            )
        if isinstance(rates, str) and rates not in ("g_snr", "sqrt_numel"):
            raise UserError(f"optimizer.rates: {rates} is not known; allowed: g_snr, sqrt_numel, or numbers")

    def update_tensor(self, p: Tensor, gradient: Tensor, group: dict[str, Any], place: int) -> None:
        state = self.state[p]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p)
            state["rate"] = self._rate(gradient, group["eps"], place)
        state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(state["rate"] * state["momentum_buffer"], alpha=group["lr"])

    def _rate(self, gradient: Tensor, eps: float, place: int) -> Tensor:
        if isinstance(self.rates, list):
            return gradient.new_tensor(self.rates[place])
        if self.rates == "sqrt_numel":
            return gradient.new_tensor(math.sqrt(gradient.numel()))
        return gradient_snr(gradient, eps)
