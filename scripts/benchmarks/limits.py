"""What the machine does at most: bytes a second in a copy, and operations a second in a matrix product.

The limit of a work is the time for the operations that it cannot do without at the rate of a matrix product,
or for the bytes that it has to move at the rate of a copy, whichever is longer. Both are counted, and nothing
is measured on the work itself.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import DEVICE, seconds_of

Cost = Callable[[Tensor, Tensor], Tensor]


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

    def seconds(self, size: float, operations: float) -> float:
        """The least time for so many bytes moved and operations done."""
        return max(size / self.bytes_per_second, operations / self.flops_per_second)


@cache
def limits(small: bool = False) -> Limits:
    """Measure them, once: about a second on two cores."""
    large, half, n = (2**20, 2**14, 128) if small else (2**26, 2**16, 2048)
    if DEVICE.type == "cuda" and not small:
        large, n = 2**28, 8192
    product = _best(lambda a, b, out: torch.matmul(a, b, out=out), [(n, n)] * 3)
    return Limits(_copied(large), _copied(half), 2 * n**3 / product)


def _copied(count: int) -> float:
    """Bytes a second of a copy of so many float32 numbers, read and written."""
    return 8 * count / _best(lambda source, target: target.copy_(source), [(count,)] * 2)


def _best(call: Callable[..., object], shapes: list[tuple[int, ...]]) -> float:
    """Limits are of the best moment."""
    given = [torch.rand(shape, device=DEVICE) for shape in shapes]
    call(*given)
    return min(seconds_of(lambda: call(*given)) for _ in range(5))


def limit_of_sensing(d: int, members: int = 1) -> float:
    """Seconds for a step of matrix sensing at B = 1: W₁ᵀa, W₂b, and a rank-one update of each matrix.

    8d² operations. Over a block of steps they are matrix products, so no bytes have to be moved for each.
    """
    return members * limits().seconds(0, 8 * d**2)


def limit_of_step(
    network: nn.Module, cost: Cost, inputs: Tensor, targets: Tensor, members: int = 1, penalty: bool = False
) -> float:
    """Seconds for a step of plain SGD: its products and convolutions, and parameters and gradient moved.

    Parameters are read twice and written once, the gradient is written and read; with the penalty twice so.
    """
    parameters = list(network.parameters())
    with FlopCounterMode(display=False) as counter:
        gradient = torch.autograd.grad(cost(network(inputs), targets), parameters, create_graph=penalty)
        if penalty:
            direction = [part.detach() for part in gradient]
            torch.autograd.grad(gradient, parameters, direction)
    moved = 5 * sum(4 * p.numel() for p in parameters) * (2 if penalty else 1)
    return members * limits().seconds(moved, counter.get_total_flops())
