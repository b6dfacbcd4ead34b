"""Two classes that differ a little in their means, more in a covariance, and most in moments beyond both."""

from typing import Any

import torch
from torch import Tensor

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import require
from sgdlit.data.sensing import signs
from sgdlit.data.streams import Split, StreamData
from sgdlit.foundations.exact_sums import grid_product
from sgdlit.foundations.philox import derive_key, integers, normal


class HiddenMoments(StreamData):
    """x = Rz ± a·u with a random rotation R and a random unit vector u: inputs ``[n, d]``, targets 0 or 1
    ``[n]``.

    z ~ N(0, I) in class 0. In class 1 z₁ has the standard deviation ``stretch``, and z₂ to z₄ are ±1, which a
    covariance does not tell from normal numbers. A Gaussian clone of it keeps what a network learns early
    and lacks what it learns late (Refinetti, Ingrosso & Goldt 2023, 2211.11567).

    Args:
        d: number of inputs, at least 5.
        shift: a, distance of each mean from 0.
        stretch: standard deviation of z₁ in class 1.
        teacher_seed: a seed for R and u alone; None takes ``data_seed``.
        stream: see :class:`StreamData`.

    Raises:
        UserError: fewer than five inputs; a stretch that is not positive.
    """

    key_name = "hidden moments"
    small = ({"d": 12},)

    def __init__(
        self,
        d: int = 20,
        shift: float = 0.4,
        stretch: float = 2.5,
        teacher_seed: int | None = None,
        **stream: Any,
    ) -> None:
        super().__init__(**stream)
        require(d >= 5, "d", d, "5 or more")
        require(0 < stretch < float("inf"), "stretch", stretch, "a number above 0")
        self.d, self.shift, self.stretch = d, shift, stretch
        self.teacher_seed = self.data_seed if teacher_seed is None else teacher_seed
        key = derive_key(self.teacher_seed, f"{self.key_name} teacher")
        drawn = normal(key, torch.arange(d + 1), d, dtype=torch.float64)
        q, r = torch.linalg.qr(drawn[:d])
        self.rotation = q * r.diagonal().sign()
        self.direction = drawn[d] / drawn[d].norm()

    @property
    def draws_per_example(self) -> int:
        return self.d

    def describe(self) -> dict[str, Any]:
        own = {"d": self.d, "shift": self.shift, "stretch": self.stretch}
        return own | {"teacher_seed": self.teacher_seed}

    def draw(self, split: Split, index: Tensor) -> Batch:
        key = self.key(split)
        labels = integers(key, index, 1, 2, substream=1).squeeze(-1)
        z = normal(key, index, self.d, dtype=torch.float64)
        first = labels == 1
        z[:, 0] *= torch.where(first, self.stretch, 1.0)
        flat = signs(derive_key(self.data_seed, f"{self.key_name} {split} signs"), index, 3, torch.float64)
        z[:, 1:4] = torch.where(first.unsqueeze(1), flat, z[:, 1:4])
        side = (self.shift * (2 * labels - 1)).unsqueeze(1)
        x = grid_product(z, self.rotation.to(index.device)) + side * self.direction.to(index.device)
        return x.to(self.dtype), labels
