"""Global sparse momentum SGD: only the weights that matter most for the loss receive their gradient."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sgdlit.algorithms.largest import largest
from sgdlit.algorithms.rules.base import Hyperparameters, RuleOptimizer, State, UpdateRule
from sgdlit.foundations.errors import UserError
from sgdlit.objectives.penalty import spread


class GSM(RuleOptimizer):
    """Z ← βZ + wθ + M ⊙ g, θ ← θ − lr·Z, with M = 1 at the Q weights of largest |θ·g| (Ding et al. 2019).

    Ding et al. 2019, arXiv 1909.12778, equations 5 to 8. The Q weights are sought over all tensors of two or
    more dimensions of a group together; the others (biases) receive all of their gradient. What is passive
    decays by 1 − lr·w/(1 − β) a step: where lr·w/(1 − β) times the steps is 4 or more, it ends near 0.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        momentum: β.
        weight_decay: w.
        keep: Q as a part of all weights.

    Raises:
        UserError: a setting out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.005,
        momentum: float = 0.98,
        weight_decay: float = 5e-4,
        keep: float = 0.05,
    ) -> None:
        for name, value, allowed, fits in (
            ("lr", lr, "0 or more", lr >= 0),
            ("momentum", momentum, "from 0 to below 1", 0 <= momentum < 1),
            ("weight_decay", weight_decay, "0 or more", weight_decay >= 0),
            ("keep", keep, "above 0, up to 1", 0 < keep <= 1),
        ):
            if not fits:
                raise UserError(f"model.optimizer.{name}: {value} is not possible; allowed: {allowed}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "keep": keep})

    def rule(self, group: dict[str, Any]) -> UpdateRule:
        return GSMRule([group])


class GSMRule(UpdateRule):
    """Z ← βZ + wθ + M ⊙ g, θ ← θ − lr·Z."""

    optimizers = (GSM,)
    unsupported = ()
    common = ("keep",)
    constant = True

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        super().__init__(groups)
        self.state_names = ("momentum_buffer",)
        self.keep = float(groups[0]["keep"])

    def hyperparameters(self, group: dict[str, Any], step: int) -> dict[str, float]:
        return {name: float(group[name]) for name in ("lr", "momentum", "weight_decay")}

    def update(
        self, parameters: list[Tensor], gradient: list[Tensor], state: State, given: Hyperparameters
    ) -> None:
        let_through = self.masked(parameters, gradient, given["lr"].shape)
        for p, g, buffer in zip(parameters, let_through, state["momentum_buffer"], strict=True):
            own = {name: spread(number, p) for name, number in given.items()}
            buffer.mul_(own["momentum"]).add_(g.addcmul(p, own["weight_decay"]))
            p.addcmul_(buffer, own["lr"], value=-1)

    def masked(self, parameters: list[Tensor], gradient: list[Tensor], runs: torch.Size) -> list[Tensor]:
        """The gradient, of which the weights have only that of the Q largest |θ·g| of each run."""
        weights = [k for k, p in enumerate(parameters) if p.dim() - len(runs) >= 2]
        out = list(gradient)
        if not weights:
            return out
        parts = [(parameters[k] * gradient[k]).abs().reshape(*runs, -1) for k in weights]
        sizes = [part.shape[-1] for part in parts]
        mask = largest(torch.cat(parts, -1), max(1, round(self.keep * sum(sizes))))
        for k, own in zip(weights, mask.split(sizes, -1), strict=True):
            out[k] = gradient[k] * own.reshape(gradient[k].shape)
        return out
