"""Accelerated SGD with four parameters, as the theory of least squares has it."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from sgdlit.algorithms.rules.base import Hyperparameters, RuleOptimizer, State, UpdateRule
from sgdlit.foundations.errors import UserError
from sgdlit.objectives.penalty import spread


class AcceleratedSGD(RuleOptimizer):
    """u = αw + (1 − α)v; w ← u − δ·g(u); v ← βu + (1 − β)v − γ·g(u).

    Li, Deng, Wu, Zhou & Gu 2023 (arXiv 2311.14222), algorithm 1. The parameters of the network are u, at
    which the gradient is taken; at the beginning w = v = u. ``AccSGD`` of Kidambi et al. 2018 is the same
    family in other parameters; Nesterov's momentum on one sequence is another algorithm.

    Args:
        params: parameters, or groups of them.
        lr: δ.
        long_step: γ/δ, so that a schedule moves both steps alike.
        beta: β.
        alpha: α; None is 1/(1 + β).

    Raises:
        UserError: a setting out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.01,
        long_step: float = 10.0,
        beta: float = 0.005,
        alpha: float | None = None,
    ) -> None:
        alpha = 1 / (1 + beta) if alpha is None else alpha
        for name, value, allowed, fits in (
            ("lr", lr, "0 or more", lr >= 0),
            ("long_step", long_step, "0 or more", long_step >= 0),
            ("beta", beta, "from 0 to 1", 0 <= beta <= 1),
            ("alpha", alpha, "from 0 to 1", 0 <= alpha <= 1),
        ):
            if not fits:
                raise UserError(f"model.optimizer.{name}: {value} is not possible; allowed: {allowed}")
        super().__init__(params, {"lr": lr, "long_step": long_step, "beta": beta, "alpha": alpha})

    def rule(self, group: dict[str, Any]) -> UpdateRule:
        return AcceleratedSGDRule([group])


class AcceleratedSGDRule(UpdateRule):
    """The same in u and d = v − u: e = (1 − β)d − (γ − δ)g, u ← u − δg + (1 − α)e, d ← αe."""

    optimizers = (AcceleratedSGD,)
    unsupported = ()
    constant = True

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        super().__init__(groups)
        self.state_names = ("ahead",)

    def hyperparameters(self, group: dict[str, Any], step: int) -> dict[str, float]:
        lr, alpha = float(group["lr"]), float(group["alpha"])
        return {
            "lr": lr,
            "longer": lr * (float(group["long_step"]) - 1),
            "keep": 1 - float(group["beta"]),
            "alpha": alpha,
            "toward_v": 1 - alpha,
        }

    def update(
        self, parameters: list[Tensor], gradient: list[Tensor], state: State, given: Hyperparameters
    ) -> None:
        for p, g, ahead in zip(parameters, gradient, state["ahead"], strict=True):
            own = {name: spread(number, p) for name, number in given.items()}
            apart = ahead * own["keep"] - g * own["longer"]
            p.sub_(g * own["lr"]).add_(apart * own["toward_v"])
            ahead.copy_(apart * own["alpha"])
