"""SGD, with momentum and Nesterov's, and weight decay in the gradient."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.optim import SGD

from sgdlit.algorithms.rules.base import Hyperparameters, State, UpdateRule
from sgdlit.objectives.penalty import spread

Array = np.ndarray


def linear_map(
    curvature: Array | float, lr: float, momentum: float = 0.0, nesterov: bool = False
) -> tuple[Array, Array]:
    """What the rule does to a direction of a quadratic with gradient hθ + e: (θ, b) ← M (θ, b) + n e.

    b is the momentum buffer, b ← μb + hθ + e, and θ ← θ − lr·b, or with Nesterov's momentum
    θ ← θ − lr·(hθ + e + μb). The noisy quadratic model and stochastic least squares follow their moments.

    Args:
        curvature: h, of any shape ``[...]``.
        lr: the learning rate.
        momentum: μ.
        nesterov: whether it is Nesterov's.

    Returns:
        M, float64 ``[..., 2, 2]``, and n, float64 ``[2]``.
    """
    h, one = np.asarray(curvature, dtype=np.float64), np.ones_like(curvature, dtype=np.float64)
    along, kept = (1 + momentum, momentum**2) if nesterov else (1.0, momentum)
    lines = [[1 - lr * along * h, -lr * kept * one], [h, momentum * one]]
    return np.stack([np.stack(line, -1) for line in lines], -2), np.array([-lr * along, 1.0])


class SGDRule(UpdateRule):
    """θ ← θ − lr·(g + w·θ); with momentum μ, b ← μb + g + wθ and θ ← θ − lr·b, or with Nesterov g + wθ + μb.

    A run without momentum beside one that has it multiplies its buffer by 0.
    """

    optimizers = (SGD,)
    unsupported = ("dampening", "maximize", "differentiable")
    common = ("nesterov",)
    constant = True

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        super().__init__(groups)
        self.decays = any(group["weight_decay"] for group in groups)
        self.nesterov = groups[0]["nesterov"]
        if any(group["momentum"] for group in groups):
            self.state_names = ("momentum_buffer",)

    def hyperparameters(self, group: dict[str, Any], step: int) -> dict[str, float]:
        return {name: float(group[name]) for name in ("lr", "momentum", "weight_decay")}

    def update(
        self, parameters: list[Tensor], gradient: list[Tensor], state: State, given: Hyperparameters
    ) -> None:
        buffers = state.get("momentum_buffer", [None] * len(parameters))
        for p, g, buffer in zip(parameters, gradient, buffers, strict=True):
            if self.decays:
                g = g.addcmul(p, spread(given["weight_decay"], p))
            if buffer is not None:
                momentum = spread(given["momentum"], p)
                buffer.mul_(momentum).add_(g)
                g = g.addcmul(buffer, momentum) if self.nesterov else buffer
            p.addcmul_(g, spread(given["lr"], p), value=-1)
