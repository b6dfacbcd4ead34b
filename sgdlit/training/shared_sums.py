"""Ranks that share the examples of measures: one decides and takes measures, the others compute their part.

The first rank says which sum it needs; every rank computes it over its own examples, and one reduction adds
them up. So no rank but the first decides anything, and all of them communicate alike. What is no sum over
examples, the first rank computes alone.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum, auto

import torch
from torch import Tensor, distributed, nn

from sgdlit.measures.example_gradients import ExampleGradients
from sgdlit.measures.example_sums import ExampleSums
from sgdlit.measures.mean_gradient import MeanGradient, trained_parameters
from sgdlit.measures.measure import Examples
from sgdlit.measures.products import HessianProducts
from sgdlit.measures.undisturbed import Mode
from sgdlit.objectives import Loss

_FEWEST = 4  # examples of a rank: of fewer, waiting takes longer than computing


class _Sum(IntEnum):
    """What the first rank asks for."""

    END = auto()
    COST = auto()
    GRADIENT = auto()
    NORMS = auto()
    NORMS_AND_PRODUCTS = auto()
    HESSIAN = auto()
    CURVED_GRADIENT = auto()
    PRODUCT = auto()


def can_share(mode: Mode, examples: int, ranks: int) -> bool:
    """Whether ranks share examples: not in mode ``train``, where each chunk has its own statistics and draws.

    Args:
        mode: in which the network is measured.
        examples: n.
        ranks: how many there are.
    """
    return mode == "eval" and ranks > 1 and examples >= _FEWEST * ranks


def part_of(examples: Examples, rank: int, ranks: int) -> Examples:
    """Those of one rank: consecutive ones, on all ranks as many up to one."""
    bounds = [rank_or_next * examples.count // ranks for rank_or_next in (rank, rank + 1)]

    def make(part: slice) -> tuple[Tensor, Tensor]:
        return examples.make(slice(bounds[0] + part.start, bounds[0] + part.stop))

    return Examples(make, bounds[1] - bounds[0], examples.chunk_size, examples.population)


class _Part:
    """What one rank computes of each sum.

    Args:
        network: in the mode in which it is.
        loss: of each example.
        whole: all examples.
    """

    def __init__(self, network: nn.Module, loss: Loss, whole: Examples) -> None:
        rank, ranks = distributed.get_rank(), distributed.get_world_size()
        examples = part_of(whole, rank, ranks)
        self.own, self.whole, self.first = ExampleSums(network, loss, examples), whole, rank == 0
        self.start, self.share = rank * whole.count // ranks, examples.count / whole.count
        self.count = examples.count
        self.parameters = trained_parameters(network)
        self.device = next(iter(self.parameters.values())).device
        self.hessian: HessianProducts | None = None

    def asked(self, what: _Sum | None = None) -> _Sum:
        """What the first rank asks for, on every rank."""
        return _Sum(int(self.given(torch.tensor(0 if what is None else int(what), device=self.device))))

    def given(self, tensor: Tensor) -> Tensor:
        """A tensor of the first rank, in the place of one of its shape on the others."""
        distributed.broadcast(tensor, 0)
        return tensor

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum over ranks."""
        distributed.all_reduce(tensor)
        return tensor

    def cost(self) -> float:
        mine = torch.tensor(self.own.mean_cost() * self.share, dtype=torch.float64, device=self.device)
        return float(self.summed(mine))

    def gradient(self) -> MeanGradient:
        found = self.own.mean_gradient()
        cost = torch.tensor([found.cost], dtype=torch.float64, device=self.device)
        flat = torch.cat([cost, *(part.flatten() for part in found.gradient.values())])
        flat = self.summed(flat * self.share)
        return MeanGradient(float(flat[0]), self._named(flat[1:]), self.whole.count)

    def norms(self, direction: Mapping[str, Tensor] | None, with_products: bool) -> ExampleGradients:
        if with_products:
            size = sum(p.numel() for p in self.parameters.values())
            flat = torch.zeros(size, dtype=torch.float64, device=self.device)
            if direction is not None:
                flat = torch.cat([direction[name].double().flatten() for name in self.parameters])
            direction = self._named(self.given(flat))
        found = self.own.example_gradients(direction)
        both = torch.zeros(2, self.whole.count, dtype=torch.float64, device=self.device)
        both[0, self.start : self.start + self.count] = found.squared_norms
        if found.products is not None:
            both[1, self.start : self.start + self.count] = found.products
        both = self.summed(both)
        return ExampleGradients(both[0], both[1] if with_products else None)

    def curved_gradient(self) -> tuple[float, Tensor]:
        hessian = self._hessian()
        cost = torch.tensor(hessian.cost * self.share, dtype=torch.float64, device=self.device)
        return float(self.summed(cost)), self.summed(hessian.gradient * self.share)

    def product(self, vector: Tensor | None) -> Tensor:
        hessian = self._hessian()
        if vector is None:
            vector = torch.empty(hessian.size, dtype=hessian.dtype, device=self.device)
        return self.summed((hessian @ self.given(vector.to(hessian.dtype).contiguous())) * self.share)

    def _hessian(self) -> HessianProducts:
        assert self.hessian is not None, "the first rank asks for it before its products"
        return self.hessian

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        parts = flat.split([p.numel() for p in self.parameters.values()])
        return {name: part.view_as(p) for (name, p), part in zip(self.parameters.items(), parts, strict=True)}


class SharedSums(ExampleSums):
    """Sums that the first rank asks all ranks for."""

    def __init__(self, network: nn.Module, loss: Loss, whole: Examples) -> None:
        super().__init__(network, loss, whole)
        self.part = _Part(network, loss, whole)

    def mean_cost(self) -> float:
        self.part.asked(_Sum.COST)
        return self.part.cost()

    def mean_gradient(self) -> MeanGradient:
        self.part.asked(_Sum.GRADIENT)
        return self.part.gradient()

    def example_gradients(self, direction: Mapping[str, Tensor] | None) -> ExampleGradients:
        self.part.asked(_Sum.NORMS if direction is None else _Sum.NORMS_AND_PRODUCTS)
        return self.part.norms(direction, direction is not None)

    def hessian(self) -> HessianProducts:
        self.part.asked(_Sum.HESSIAN)
        self.part.hessian = self.part.own.hessian()
        return _SharedHessian(self)


class _SharedHessian(HessianProducts):
    """Products that all ranks compute, each over its own examples; all examples are there, as ``batches``."""

    def __init__(self, sums: SharedSums) -> None:
        super().__init__(sums.network, sums.loss, sums.examples)
        self._part = sums.part

    def __matmul__(self, vector: Tensor) -> Tensor:
        if vector.dim() == 2:
            return super().__matmul__(vector)
        self._part.asked(_Sum.PRODUCT)
        self.products += 1
        return self._part.product(vector)

    def _cost_and_gradient(self) -> tuple[float, Tensor]:
        if self._found is None:
            self._part.asked(_Sum.CURVED_GRADIENT)
            self._found = self._part.curved_gradient()
        return self._found


@contextmanager
def shared_sums(network: nn.Module, loss: Loss, whole: Examples) -> Iterator[SharedSums]:
    """Inside, the first rank may ask for sums, while the others are in :func:`compute_what_is_asked`."""
    _same_buffers(network)
    sums = SharedSums(network, loss, whole)
    yield sums
    sums.part.asked(_Sum.END)  # not after an error, which ends this process: the others may be in a sum


def compute_what_is_asked(network: nn.Module, loss: Loss, whole: Examples) -> None:
    """Compute this rank's part of each sum, until the first rank needs no more."""
    _same_buffers(network)
    part = _Part(network, loss, whole)
    while (what := part.asked()) != _Sum.END:
        if what == _Sum.COST:
            part.cost()
        elif what == _Sum.GRADIENT:
            part.gradient()
        elif what in (_Sum.NORMS, _Sum.NORMS_AND_PRODUCTS):
            part.norms(None, what == _Sum.NORMS_AND_PRODUCTS)
        elif what == _Sum.HESSIAN:
            part.hessian = part.own.hessian()
        elif what == _Sum.CURVED_GRADIENT:
            part.curved_gradient()
        else:
            part.product(None)


def _same_buffers(network: nn.Module) -> None:
    """What layers have seen differs between ranks; all of them look at the first one's."""
    for buffer in network.buffers():
        distributed.broadcast(buffer, 0)
