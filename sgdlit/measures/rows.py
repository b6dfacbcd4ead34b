"""Parameters as rows of 512 numbers: sums over each of them, and over all, in few operations."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sgdlit.measures.measure import RunAtStep
from sgdlit.measures.undisturbed import HALF

_WIDTH = 512  # numbers whose products are summed in their own precision


class Rows:
    """Which rows hold which parameter, of all tensors of some names and shapes.

    A parameter begins a row, and what it leaves of its last one is 0. Sums over a row are in the precision of
    the numbers, at least float32, and sums of these in float64: of float32 numbers an inner product is exact
    to 1e-7 of ‖a‖‖b‖.

    Args:
        parameters: by name.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.numbers = {name: p.numel() for name, p in parameters.items()}
        rows = [max(1, -(-numbers // _WIDTH)) for numbers in self.numbers.values()]
        self._starts = np.cumsum([0, *rows[:-1]])
        like = next(iter(parameters.values())).detach()
        self._dtype = torch.float32 if like.dtype in HALF else like.dtype
        free = (_WIDTH * count - numbers for count, numbers in zip(rows, self.numbers.values(), strict=True))
        self._free = [like.new_zeros(numbers, dtype=self._dtype) for numbers in free]

    def of(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The numbers of some parameters: ``[rows, 512]``, a copy."""
        parts = (parameters[name].flatten().to(self._dtype) for name in self.numbers)
        pairs = zip(parts, self._free, strict=True)
        return torch.cat([part for pair in pairs for part in pair]).view(-1, _WIDTH)

    def inner(self, one: Tensor, other: Tensor) -> dict[str, float]:
        """⟨a, b⟩ of each parameter, of two vectors as rows."""
        return self._sums(torch.linalg.vecdot(one, other))

    def squares(self, one: Tensor) -> dict[str, float]:
        """‖a‖² of each parameter, of a vector as rows."""
        return self._sums(torch.linalg.vector_norm(one, dim=1).double().square())

    def _sums(self, of_rows: Tensor) -> dict[str, float]:
        found = np.add.reduceat(of_rows.double().cpu().numpy(), self._starts)
        return dict(zip(self.numbers, found.tolist(), strict=True))


def parameters_as_rows(run: RunAtStep) -> tuple[Rows, Tensor]:
    """θ as rows of numbers, and which they are; ask for it by ``run.once``."""
    rows = Rows(run.parameters)
    return rows, rows.of(run.parameters)
