"""Noise in proportion to a bound on the gradients of examples, none of which is looked at."""

import torch
from torch import Tensor

from sgdlit.algorithms.transforms.base import Examples, GradientTransform, State
from sgdlit.algorithms.transforms.per_example_clip import standard_noise
from sgdlit.foundations.errors import UserError


class BoundedNoise(GradientTransform):
    """v = Σ_i g_i/B + σC/B·n, n ~ N(0, I), for a network whose examples have gradients of length C at most.

    What per-example clipping brings about is true of such a network by itself, so that a step costs what one
    of SGD costs (Béthune et al. 2023, 2305.16202). The bound is taken as it is given: nothing checks it.

    Args:
        bound: C.
        noise: σ.
        batch_size: B, by which sums over examples are divided; None divides by their number, which a Poisson
            order lets vary.
        seed: of the noise; None takes the run's ``seed_everything``.

    Raises:
        UserError: a bound that is not above 0, a negative σ, B below 1.
    """

    small = ({"bound": 0.5, "noise": 1.0, "seed": 3}, {"bound": 2.0, "noise": 0.1, "batch_size": 4})

    def __init__(
        self, bound: float, noise: float, batch_size: int | None = None, seed: int | None = None
    ) -> None:
        for name, value, allowed in (("bound", bound, bound > 0), ("noise", noise, noise >= 0)):
            if not (allowed and value < float("inf")):
                least = "above 0" if name == "bound" else "from 0 upwards"
                raise UserError(f"model.transform.{name}: {value} is not possible; allowed: a number {least}")
        if batch_size is not None and batch_size < 1:
            raise UserError(f"model.transform.batch_size: {batch_size} is not possible; allowed: 1 or more")
        self.bound, self.noise, self.batch_size = bound, noise, batch_size
        self.seed = 0 if seed is None else seed

    def __call__(self, examples: Examples, state: State, step: int) -> tuple[Tensor, State]:
        divisor = self.batch_size or examples.count
        total = examples.weighted(torch.full_like(examples.losses, 1 / divisor))
        return total + self.noise * self.bound / divisor * standard_noise(self.seed, step, total), state
