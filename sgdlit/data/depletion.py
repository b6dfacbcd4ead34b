"""The depletion stream: two classes with few examples near the boundary between them."""

from typing import Any

import torch
from torch import Tensor

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import require
from sgdlit.data.streams import Split, StreamData
from sgdlit.foundations.exact_sums import pairwise_sum
from sgdlit.foundations.philox import normal


class Depletion(StreamData):
    """y = sign x₁ with a density of x₁ ∝ |x₁|^χ·exp(−x₁²/2), and x₂, …, x_d ~ N(0, 1): inputs ``[n, d]``,
    targets ±1 ``[n]``.

    |x₁| is the length of a normal vector of χ + 1 numbers, whose square is twice a Gamma((χ + 1)/2) variable.
    For χ = 0 the first input is as normal as the others; the larger χ, the fewer examples lie near the
    boundary x₁ = 0 (Sclocchi, Geiger & Wyart 2023, 2301.13703).

    Args:
        d: number of inputs.
        chi: χ, the exponent of the density at the boundary, a whole number.
        stream: see :class:`StreamData`.

    Raises:
        UserError: d below 1, χ below 0.
    """

    key_name = "depletion"
    small = ({"d": 12}, {"d": 12, "chi": 2})

    def __init__(self, d: int, chi: int = 1, **stream: Any) -> None:
        super().__init__(**stream)
        require(d >= 1, "d", d, "1 or more")
        require(chi >= 0, "chi", chi, "0 or more")
        self.d, self.chi = d, chi

    @property
    def draws_per_example(self) -> int:
        return self.d + self.chi + 1

    def describe(self) -> dict[str, Any]:
        return {"d": self.d, "chi": self.chi}

    def draw(self, split: Split, index: Tensor) -> Batch:
        # The sign is that of the last of the χ + 1 numbers, which the length does not depend on.
        key = self.key(split)
        others = normal(key, index, self.d - 1, dtype=self.dtype)
        radial = normal(key, index, self.chi + 1, substream=1, dtype=torch.float64)
        first = pairwise_sum(radial.square()).sqrt().copysign(radial[..., -1]).to(self.dtype)
        signs = torch.where(radial[..., -1] < 0, -1.0, 1.0).to(self.dtype)
        return torch.cat((first.unsqueeze(-1), others), -1), signs
