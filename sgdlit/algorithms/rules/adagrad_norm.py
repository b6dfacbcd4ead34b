"""AdaGrad-Norm: one rate for all parameters, from the norms of all gradients so far."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sgdlit.algorithms.rules.base import Hyperparameters, RuleOptimizer, State, UpdateRule
from sgdlit.foundations.errors import UserError
from sgdlit.objectives.penalty import spread


class AdaGradNorm(RuleOptimizer):
    """θ ← θ − η·g_t/√(γ² + Σ_{s≤t} ‖g_s‖²), the norm over all parameters of a group together.

    Ward, Wu & Bottou 2019 (1806.01811), algorithm 1. ``torch.optim.Adagrad`` has a rate per coordinate.

    Args:
        params: parameters, or groups of them.
        lr: η.
        gamma: γ, which bounds the first rates by η/γ.

    Raises:
        UserError: η or γ not above 0.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 1.0, gamma: float = 0.01) -> None:
        for name, value in (("lr", lr), ("gamma", gamma)):
            if not value > 0:
                raise UserError(f"model.optimizer.{name}: {value} is not possible; allowed: above 0")
        super().__init__(params, {"lr": lr, "gamma": gamma})

    def rule(self, group: dict[str, Any]) -> UpdateRule:
        return AdaGradNormRule([group])


class AdaGradNormRule(UpdateRule):
    """s_i ← s_i + ‖g_i‖² of each tensor i, θ ← θ − η·g/√(γ² + Σ_i s_i)."""

    optimizers = (AdaGradNorm,)
    unsupported = ()
    constant = True

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        super().__init__(groups)
        self.state_names = self.number_names = ("sum_of_squares",)

    def hyperparameters(self, group: dict[str, Any], step: int) -> dict[str, float]:
        return {name: float(group[name]) for name in ("lr", "gamma")}

    def update(
        self, parameters: list[Tensor], gradient: list[Tensor], state: State, given: Hyperparameters
    ) -> None:
        sums = state["sum_of_squares"]
        for g, own in zip(gradient, sums, strict=True):
            own.add_(g.reshape(*own.shape, -1).square().sum(-1))
        rate = given["lr"] / (given["gamma"].square() + torch.stack(sums).sum(0)).sqrt()
        for p, g in zip(parameters, gradient, strict=True):
            p.addcmul_(g, spread(rate, p), value=-1)
