"""Matrix sensing: recover a matrix of low rank from rank-one measurements y = aᵀTb, each seen once."""

from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import require
from sgdlit.data.streams import Split, TeacherStream
from sgdlit.foundations.exact_sums import dot
from sgdlit.foundations.philox import Key, normal, uniform, words

Distribution = Literal["gaussian", "rademacher", "sparse"]


class MatrixSensing(TeacherStream):
    """Pairs (a, b) of d-vectors with y = aᵀTb + σ·noise and T = γ·G·G′, where G (d×r) and G′ (r×d) are
    standard normal.

    The entries of a and b are independent with mean 0 and variance 1, so that E (aᵀMb)² = ‖M‖²_F for every
    matrix M, whatever their distribution. Input: one tensor ``[n, 2, d]`` of the pairs; target: ``[n]``.

    Args:
        d: side of T.
        r: rank of T, at most d.
        gamma: γ, the scale of T.
        distribution: of the entries of a and b: ``gaussian`` N(0, 1); ``rademacher`` ±1; ``sparse`` 0 with
            probability 1 − density, else N(0, 1/density).
        density: of ``sparse``.
        stream: see :class:`TeacherStream` and :class:`StreamData`.

    Raises:
        UserError: r not in 1 … d, γ not positive, density not in (0, 1].
    """

    key_name = "matrix sensing"
    small = (
        {"d": 24, "r": 3, "gamma": 2.0, "label_noise": 0.1},
        {"d": 33, "r": 3, "gamma": 2.0, "distribution": "rademacher"},
        {"d": 24, "r": 3, "gamma": 2.0, "distribution": "sparse"},
    )

    def __init__(
        self,
        d: int,
        r: int,
        gamma: float,
        distribution: Distribution = "gaussian",
        density: float = 0.1,
        **stream: Any,
    ) -> None:
        super().__init__(**stream)
        require(d >= 1, "d", d, "1 or more")
        require(1 <= r <= d, "r", r, f"1 to d = {d}: the rank of a {d}x{d} matrix")
        require(0 < gamma < float("inf"), "gamma", gamma, "a number above 0")
        require(0 < density <= 1, "density", density, "above 0, at most 1")
        self.d, self.r, self.gamma, self.distribution, self.density = d, r, gamma, distribution, density
        self._targets: dict[tuple[object, ...], Tensor] = {}
        lines = torch.arange(d)
        # T = γ Σ_k left[k] right[k]ᵀ.
        self.left = normal(self.teacher_key, lines, r, substream=0, dtype=self.dtype).T.contiguous()
        self.right = normal(self.teacher_key, lines, r, substream=1, dtype=self.dtype).T.contiguous()

    @cached_property
    def target(self) -> Tensor:
        """T, float64 ``[d, d]``."""
        return self.gamma * (self.left.double().T @ self.right.double())

    def target_like(self, matrix: Tensor) -> Tensor:
        """T in the precision and on the device of a matrix, lying in memory as it does; made once."""
        kind = (matrix.dtype, matrix.device, matrix.stride())
        if kind not in self._targets:
            self._targets[kind] = torch.empty_like(matrix).copy_(self.target)
        return self._targets[kind]

    @property
    def draws_per_example(self) -> int:
        return 2 * self.d

    def describe(self) -> dict[str, Any]:
        return {
            "d": self.d,
            "r": self.r,
            "gamma": self.gamma,
            "distribution": self.distribution,
            "density": self.density,
        }

    def draw(self, split: Split, index: Tensor) -> Batch:
        pairs = self._entries(self.key(split), index).unflatten(-1, (2, self.d))
        left, right = self.left.to(index.device), self.right.to(index.device)
        a, b = pairs.unbind(1)
        factors = torch.stack([dot(a, left[k]) * dot(b, right[k]) for k in range(self.r)], -1)
        return pairs, self.noisy(split, index, dot(factors, torch.full_like(factors[0], self.gamma)))

    def _entries(self, key: Key, index: Tensor) -> Tensor:
        if self.distribution == "rademacher":
            return signs(key, index, self.draws_per_example, self.dtype)
        entries = normal(key, index, self.draws_per_example, dtype=self.dtype)
        if self.distribution == "sparse":
            chosen = uniform(key, index, self.draws_per_example, substream=1, dtype=self.dtype) < self.density
            entries = torch.where(chosen, entries * self.density**-0.5, torch.zeros_like(entries))
        return entries


def signs(key: Key, index: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Independent fair signs ±1, shape ``index.shape + (count,)``: one random bit each."""
    drawn = words(key, index, -(-count // 32))
    bits = (drawn.unsqueeze(-1) >> torch.arange(32, device=index.device)) & 1
    return (2 * bits.flatten(-2)[..., :count] - 1).to(dtype)
