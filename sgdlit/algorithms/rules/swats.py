"""SWATS: Adam that goes over to SGD, with a rate that it has learned by projection."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sgdlit.algorithms.rules.base import Hyperparameters, RuleOptimizer, State, UpdateRule
from sgdlit.foundations.errors import UserError
from sgdlit.objectives.penalty import spread, squared_lengths


class SWATS(RuleOptimizer):
    """Adam until γ_k has settled at its running mean Λ; from then on SGD with momentum and the rate Λ (F24).

    Adam's step p_k is the projection of −γ_k g_k with γ_k = p·p/(−p·g), over all parameters of a group as one
    vector; λ_k = β₂λ_{k−1} + (1 − β₂)γ_k. After update k > 1 with |λ_k/(1 − β₂ᵏ) − γ_k| < ε the rate is
    Λ = λ_k/(1 − β₂ᵏ): v ← β₁v + g, θ ← θ − (1 − β₁)Λv. Keskar & Socher 2017, arXiv 1712.07628, algorithm 1.
    A schedule goes on: Λ is multiplied by what ``lr`` has become of that at the switch. ``SWATS`` of
    pytorch_optimizer asks each tensor alone, with a relative tolerance, and for Λ > 0.

    Args:
        params: parameters, or groups of them.
        lr: of Adam.
        betas: β₁ and β₂.
        eps: added to Adam's root.
        tolerance: ε.
        relative: whether ε is in units of |γ_k|.
        switch_step: the number of the update after which it goes over, whatever γ does; None asks γ.

    Raises:
        UserError: a setting out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        tolerance: float = 1e-9,
        relative: bool = False,
        switch_step: int | None = None,
    ) -> None:
        for name, value, allowed, fits in (
            ("lr", lr, "above 0", lr > 0),
            ("betas", betas, "two numbers from 0 to below 1", all(0 <= b < 1 for b in betas)),
            ("eps", eps, "0 or more", eps >= 0),
            ("tolerance", tolerance, "0 or more", tolerance >= 0),
            ("switch_step", switch_step, "1 or more, or null", switch_step is None or switch_step >= 1),
        ):
            if not fits:
                raise UserError(f"model.optimizer.{name}: {value} is not possible; allowed: {allowed}")
        settings: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps, "tolerance": tolerance}
        super().__init__(params, settings | {"relative": relative, "switch_step": switch_step})

    def rule(self, group: dict[str, Any]) -> UpdateRule:
        return SWATSRule([group])


class SWATSRule(UpdateRule):
    """Adam's update or SGD's, as each run is at one or the other; its numbers lie with all its tensors."""

    optimizers = (SWATS,)
    unsupported = ()
    counts_steps = True

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        super().__init__(groups)
        self.number_names = ("rate_mean", "switched", "sgd_over_adam")
        self.state_names = ("exp_avg", "exp_avg_sq", *self.number_names)

    def hyperparameters(self, group: dict[str, Any], step: int) -> dict[str, float]:
        (first, second), lr, k, forced = group["betas"], float(group["lr"]), step + 1, group["switch_step"]
        return {
            "lr": lr,
            "keep_first": first,
            "new_first": 1 - first,
            "keep_second": second,
            "new_second": 1 - second,
            "eps": group["eps"],
            "size": lr / (1 - first**k),
            "root": math.sqrt(1 - second**k),
            "correction": 1 - second**k,
            "absolute": 0.0 if group["relative"] else group["tolerance"],
            "of_gamma": group["tolerance"] if group["relative"] else 0.0,
            "may_switch": float(forced is None and k > 1),
            "has_to_switch": float(forced == k),
        }

    def update(
        self, parameters: list[Tensor], gradient: list[Tensor], state: State, given: Hyperparameters
    ) -> None:
        over = state["switched"][0] > 0
        sgd_size = given["new_first"] * given["lr"] * state["sgd_over_adam"][0]
        means, squares, adam_steps = state["exp_avg"], state["exp_avg_sq"], []
        for p, g, mean, square in zip(parameters, gradient, means, squares, strict=True):
            own = {name: spread(number, p) for name, number in given.items()}
            at_sgd = spread(over, p)
            mean.mul_(own["keep_first"]).add_(torch.where(at_sgd, g, g * own["new_first"]))
            square.copy_(torch.where(at_sgd, square, square * own["keep_second"] + g * g * own["new_second"]))
            adam_step = -own["size"] * mean / (square.sqrt() / own["root"] + own["eps"])
            p.add_(torch.where(at_sgd, -spread(sgd_size, p) * mean, adam_step))
            adam_steps.append(adam_step)
        self._settle(adam_steps, gradient, state, given, over)

    def _settle(
        self, steps: list[Tensor], gradient: list[Tensor], state: State, given: Hyperparameters, over: Tensor
    ) -> None:
        """Move Λ on, and let the runs go over whose γ is near it."""
        runs = over.shape
        along = -torch.stack(
            [(p * g).reshape(*runs, -1).sum(-1) for p, g in zip(steps, gradient, strict=True)]
        ).sum(0)
        known = ~over & (along != 0)
        gamma = squared_lengths(steps, runs) / torch.where(along != 0, along, torch.ones_like(along))
        before = state["rate_mean"][0]
        mean = torch.where(known, given["keep_second"] * before + given["new_second"] * gamma, before)
        rate = mean / given["correction"]
        near = (rate - gamma).abs() < given["absolute"] + given["of_gamma"] * gamma.abs()
        switches = (known & near & (given["may_switch"] > 0)) | (~over & (given["has_to_switch"] > 0))
        ratio = torch.where(switches, rate / given["lr"], state["sgd_over_adam"][0])
        for first, *numbers in zip(
            state["exp_avg"], *(state[name] for name in self.number_names), strict=True
        ):
            first.copy_(torch.where(spread(switches, first), torch.zeros_like(first), first))
            for held, value in zip(numbers, (mean, over | switches, ratio), strict=True):
                held.copy_(value)
