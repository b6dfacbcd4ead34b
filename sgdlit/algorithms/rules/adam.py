"""Adam and AdamW."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Adam, AdamW

from sgdlit.algorithms.rules.base import Hyperparameters, State, UpdateRule
from sgdlit.objectives.penalty import spread


class AdamRule(UpdateRule):
    """Adam (Kingma & Ba 2015, algorithm 1), with weight decay in the gradient or, as in AdamW, beside it."""

    optimizers = (Adam, AdamW)
    unsupported = ("amsgrad", "maximize", "differentiable")
    common = ("decoupled_weight_decay",)
    counts_steps = True

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        super().__init__(groups)
        self.state_names = ("exp_avg", "exp_avg_sq")
        self.decays = any(group["weight_decay"] for group in groups)
        self.decoupled = groups[0]["decoupled_weight_decay"]

    def hyperparameters(self, group: dict[str, Any], step: int) -> dict[str, float]:
        (first, second), lr, decay = group["betas"], float(group["lr"]), group["weight_decay"]
        return {
            "keep_first": first,
            "keep_second": second,
            "new_first": 1 - first,
            "new_second": 1 - second,
            "eps": group["eps"],
            "size": lr / (1 - first ** (step + 1)),
            "root": math.sqrt(1 - second ** (step + 1)),
            "weight_decay": decay,
            "shrink": lr * decay,
        }

    def update(
        self, parameters: list[Tensor], gradient: list[Tensor], state: State, given: Hyperparameters
    ) -> None:
        means, squares = state["exp_avg"], state["exp_avg_sq"]
        for p, g, mean, square in zip(parameters, gradient, means, squares, strict=True):
            own = {name: spread(number, p) for name, number in given.items()}
            if self.decays and self.decoupled:
                p.sub_(own["shrink"] * p)
            elif self.decays:
                g = g.addcmul(p, own["weight_decay"])
            mean.mul_(own["keep_first"]).addcmul_(g, own["new_first"])
            square.mul_(own["keep_second"]).addcmul_(g * g, own["new_second"])
            p.addcdiv_(mean * own["size"], square.sqrt().div_(own["root"]).add_(own["eps"]), value=-1)
