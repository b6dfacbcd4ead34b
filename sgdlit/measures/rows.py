"""Parameters as rows of 512 numbers: sums over each of them, and over all, in few operations."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sgdlit.foundations.errors import UserError
from sgdlit.measures.measure import RunAtStep
from sgdlit.measures.undisturbed import HALF

_WIDTH = 512  # numbers whose products are summed in their own precision


class _Place(NamedTuple):
    """Where the numbers of a parameter are among those of all rows."""

    start: int
    shape: torch.Size
    strides: tuple[int, ...]


class _Layout(NamedTuple):
    """Which rows hold which parameter: each begins a row, and what it leaves of its last one is 0."""

    places: dict[str, _Place]
    free: tuple[slice, ...]  # what stays 0
    first: np.ndarray  # the first row of each
    rows: int


@lru_cache(maxsize=8)
def _layout(shapes: tuple[tuple[str, torch.Size], ...]) -> _Layout:
    numbers = [shape.numel() for _, shape in shapes]
    first = np.cumsum([0, *(max(1, -(-count // _WIDTH)) for count in numbers)])
    starts = (_WIDTH * first).tolist()
    places = {
        name: _Place(start, shape, torch.empty(shape, device="meta").stride())
        for (name, shape), start in zip(shapes, starts, strict=False)
    }
    ends = [start + count for start, count in zip(starts, numbers, strict=False)]
    free = (slice(end, after) for end, after in zip(ends, starts[1:], strict=True) if end < after)
    return _Layout(places, tuple(free), first[:-1], int(first[-1]))


class Rows(Mapping[str, Tensor]):
    """A copy of parameters, or another vector of their names and shapes, that lies as rows in one tensor.

    Sums over a row are in the precision of the numbers, at least float32, and sums of these in float64: of
    float32 numbers an inner product is exact to 1e-7 of ‖a‖‖b‖.

    Attributes:
        numbers: ``[rows, 512]``.
    """

    def __init__(self, numbers: Tensor, layout: _Layout) -> None:
        self.numbers, self._layout = numbers, layout

    @classmethod
    def of(cls, vector: Mapping[str, Tensor]) -> "Rows":
        """A copy of a vector given by the names of parameters; itself where it is one already."""
        if isinstance(vector, Rows):
            return vector
        parts = [part.detach() for part in vector.values()]
        layout = _layout(tuple((name, part.shape) for name, part in vector.items()))
        numbers = parts[0].new_empty(
            layout.rows * _WIDTH, dtype=torch.float32 if parts[0].dtype in HALF else None
        )
        for free in layout.free:
            numbers[free] = 0
        found = cls(numbers.view(-1, _WIDTH), layout)
        torch._foreach_copy_(list(found.values()), parts)
        return found

    def to(self, device: torch.device) -> "Rows":
        return self if self.numbers.device == device else Rows(self.numbers.to(device), self._layout)

    def __getitem__(self, name: str) -> Tensor:
        start, shape, strides = self._layout.places[name]
        return self.numbers.as_strided(shape, strides, start)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout.places)

    def __len__(self) -> int:
        return len(self._layout.places)

    def minus(self, other: "Rows") -> "Rows":
        """Their difference."""
        return Rows(self.numbers - other.numbers, self._layout)

    def inner(self, other: "Rows") -> Tensor:
        """⟨a, b⟩ of each row, see :meth:`by_name`."""
        return torch.linalg.vecdot(self.numbers, other.numbers).double()

    def squares(self) -> Tensor:
        """‖a‖² of each row, see :meth:`by_name`."""
        return torch.linalg.vector_norm(self.numbers, dim=1).double().square()

    def by_name(self, *of_rows: Tensor) -> list[dict[str, float]]:
        """Sums over the rows of each parameter, of some numbers of every row, ``[rows]`` each."""
        found = np.add.reduceat(torch.stack(of_rows).cpu().numpy(), self._layout.first, axis=1)
        return [dict(zip(self, sums, strict=True)) for sums in found.tolist()]


def both_as_rows(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> tuple[Rows, Rows]:
    """Two vectors, in the precision of the first.

    Raises:
        UserError: a part of the first that the other lacks, or has in another shape.
    """
    for name, part in one.items():
        found = other[name].shape if name in other else None
        if found != part.shape:
            had = "none" if found is None else f"one of {tuple(found)}"
            raise UserError(f"{name}: of {tuple(part.shape)} here, there {had}; allowed: the same shapes")
    first = Rows.of(one)
    return first, Rows.of({name: other[name].to(first.numbers.dtype) for name in one})


def parameters_as_rows(run: RunAtStep) -> Rows:
    """θ as rows; ask for it by ``run.once``."""
    return Rows.of(run.parameters)
