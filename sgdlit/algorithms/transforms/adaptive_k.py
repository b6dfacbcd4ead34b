"""Adaptive-k: a step sees only the examples whose loss is below a running threshold."""

import torch
from torch import Tensor

from sgdlit.algorithms.transforms.base import Examples, GradientTransform, State
from sgdlit.foundations.errors import UserError


class AdaptiveK(GradientTransform):
    """The mean gradient of the examples with ℓ_i ≤ m/(√v + 10⁻⁸), m ← β₁m + (1 − β₁)ℓ̄, v ← β₂v + (1 − β₂)ℓ̄².

    ℓ̄ is the mean loss of the batch. m/√v has no unit and no bias correction: it starts near 3.2 and tends
    to 1, and is compared with a loss in nats, so that another scale of the loss changes what is kept. Where
    no example is kept the gradient is 0. Source: Dedeoglu, Kesgin & Amasyali 2022, 2203.14165,
    in the form of the authors' code.

    Args:
        plain_steps: steps at the beginning that keep all examples and leave m = v = 0.
        betas: β₁ and β₂.

    Raises:
        UserError: a negative number of steps, β not in [0, 1).
    """

    small = ({}, {"plain_steps": 2})

    def __init__(self, plain_steps: int = 0, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        if plain_steps < 0:
            raise UserError(f"model.transform.plain_steps: {plain_steps} is not possible; allowed: 0 or more")
        if not all(0 <= beta < 1 for beta in betas):
            raise UserError(
                f"model.transform.betas: {list(betas)} are not possible; allowed: 0 or more, below 1"
            )
        self.plain_steps, self.betas = plain_steps, betas

    def start(self, parameters: Tensor) -> State:
        zero = torch.zeros_like(parameters[..., 0])
        return {"mean": zero, "square": zero}

    def __call__(self, examples: Examples, state: State, step: int) -> tuple[Tensor, State]:
        if step < self.plain_steps:
            return examples.mean_gradient(), state
        kept, state = self.kept(examples.losses, state)
        return examples.weighted(kept / kept.sum(-1, keepdim=True).clamp_min(1)), state

    def kept(self, losses: Tensor, state: State) -> tuple[Tensor, State]:
        """Which losses ``[..., n]`` are kept, 1 or 0, and the state with them."""
        (first, second), mean = self.betas, losses.mean(-1)
        m = first * state["mean"] + (1 - first) * mean
        v = second * state["square"] + (1 - second) * mean.square()
        threshold = m / (v.sqrt() + 1e-8)
        return (losses <= threshold.unsqueeze(-1)).to(losses), {"mean": m, "square": v}
