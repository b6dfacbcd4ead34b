"""What the machine does at most: bytes a second in a copy, and operations a second in a matrix product."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks.common import DEVICE, seconds_of


class Limits(NamedTuple):
    """Of this machine, measured in this run.

    Args:
        bytes_per_second: read and written, of a copy that no cache holds.
        cached_bytes_per_second: of a copy of half a megabyte, which the second-level cache holds.
        flops_per_second: of a float32 matrix product, without TF32.
    """

    bytes_per_second: float
    cached_bytes_per_second: float
    flops_per_second: float

    def seconds(self, size: float, operations: float, cached: bool = False) -> float:
        """The least time for so many bytes moved and operations done; whichever takes longer."""
        rate = self.cached_bytes_per_second if cached else self.bytes_per_second
        return max(size / rate, operations / self.flops_per_second)


def limits(small: bool = False) -> Limits:
    """Measure them: about a second on two cores."""
    large, half, n = (2**20, 2**14, 128) if small else (2**26, 2**16, 2048)
    if DEVICE.type == "cuda" and not small:
        large, n = 2**30, 8192
    product = _best(lambda a, b, out: torch.matmul(a, b, out=out), [torch.rand(n, n) for _ in range(3)])
    return Limits(_copied(large), _copied(half), 2 * n**3 / product)


def _copied(count: int) -> float:
    """Bytes a second of a copy of so many float32 numbers, read and written."""
    return (
        8 * count / _best(lambda source, target: target.copy_(source), [torch.rand(count) for _ in range(2)])
    )


def _best(call: Callable[..., object], tensors: list[torch.Tensor]) -> float:
    given = [tensor.to(DEVICE) for tensor in tensors]
    call(*given)
    return min(seconds_of(lambda: call(*given)) for _ in range(5))
