"""Products of vectors with the Hessian, or with its Gauss–Newton part: curvature without a matrix.

A product costs about three gradients when it stands alone. The graph of the gradient is kept for as many
examples as fit into ``graph_memory``, so that m products cost about 1 + 2m gradients, not 3m.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.generators import ONE_AT_A_TIME, kept, seed_network, snapshot
from sgdlit.foundations.philox import derive_key
from sgdlit.measures.from_scripts import gathered, of_mean
from sgdlit.measures.mean_gradient import gradient_of, require_examples, require_trained
from sgdlit.measures.undisturbed import (
    HALF,
    in_single_precision,
    outputs_of,
    preserved,
    refuse_not_finite,
    require_tensor,
)
from sgdlit.objectives import convolution, weight_norm
from sgdlit.objectives.objective import refuse_compiled
from sgdlit.objectives.second_derivatives import second_derivatives

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""outputs ``[b, ...]``, targets ``[b, ...]`` -> the mean loss, or the loss of each example ``[b]``."""

Graph = TypeVar("Graph")


class Products(ABC, Generic[Graph]):
    """A symmetric matrix ``[P, P]`` that is the mean over examples of a second derivative by P parameters.

    It is a sum over batches with their counts: how examples are cut into batches changes rounding only.
    Parameters are those that require a gradient, each tensor once, one after another in the order of
    ``network.parameters()``; one that takes no part has rows and columns of zeros. The network is in the mode
    in which it is, in its own precision but at least float32, without autocast. Nothing of it changes: not
    its mode, statistics or ``.grad``, nor random generators. After an update of the parameters, make a new
    object.

    Args:
        network: with outputs ``[b, ...]`` for inputs ``[b, ...]``.
        loss: outputs and targets -> the mean loss of the batch, or one loss per example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]`` of all examples; b may differ.
        graph_memory: bytes that graphs kept for further products may take; 0 to keep none, None for all.

    Attributes:
        size: P.
        examples: N.
        batches: inputs and targets of all of them, as the network sees them.
        products: how many were computed so far.

    Raises:
        UserError: no loss; no parameters, complex ones, or ones that are not finite; no examples; a network
            that torch.compile was applied to, or that has an operation without a second derivative.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: LossFunction,
        batches: Iterable[Batch],
        graph_memory: int | None = 2**30,
    ) -> None:
        refuse_compiled(network, type(self).__name__)
        refuse_not_finite(network)
        require_trained(network)
        self.network = in_single_precision(network)
        self.loss, self.graph_memory = of_mean(loss), graph_memory
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        if any(p.is_complex() for p in self.parameters):
            raise UserError(f"{type(self).__name__}: the network has complex parameters; allowed: real ones")
        self.size = sum(p.numel() for p in self.parameters)
        self.dtype, self.device = self.parameters[0].dtype, self.parameters[0].device
        for p in self.parameters:
            self.dtype = torch.promote_types(self.dtype, p.dtype)
        self.products = 0
        self._seed = torch.initial_seed()  # of what the network draws, if it draws anything
        self.batches = [self._converted(batch) for batch in gathered(batches) if len(batch[0])]
        self.examples = sum(len(inputs) for inputs, _ in self.batches)
        require_examples(self.examples)
        self._kept: dict[int, Graph] = {}
        self._keeping: int | None = None  # batches whose graphs are kept; not yet known
        self._draws = True  # until a pass has shown that the network does not

    def __matmul__(self, vector: Tensor) -> Tensor:
        """The product with a vector ``[P]``, or with each column of ``[P, k]``; of the same shape."""
        if vector.dim() == 2:
            return torch.stack([self @ column for column in vector.unbind(1)], 1)
        with twice_differentiable(self.network):
            total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
            parts = self.parts(vector.to(total))
            for graph, is_kept in self._graphs():
                total += self.flat(self._product(graph, parts, is_kept))
        self.products += 1
        return total

    def to_scipy(self) -> "LinearOperator":
        """The matrix for scipy: takes and gives arrays of float64 on the host, computed as here."""
        from scipy.sparse.linalg import LinearOperator

        def product(vector):
            return (self @ torch.from_numpy(vector.reshape(-1)).to(self.device)).double().cpu().numpy()

        return LinearOperator((self.size, self.size), matvec=product, rmatvec=product, dtype="float64")

    def parts(self, vector: Tensor) -> list[Tensor]:
        """A vector ``[P]`` as tensors of the parameters' shapes, each with memory of its own: some operations
        take none that begins anywhere."""
        pieces = vector.split([p.numel() for p in self.parameters])
        both = zip(pieces, self.parameters, strict=True)
        return [piece.view_as(p).to(p.dtype, copy=True) for piece, p in both]

    def flat(self, parts: Sequence[Tensor]) -> Tensor:
        """Tensors of the parameters' shapes as one vector ``[P]``."""
        return torch.cat([part.reshape(-1) for part in parts])

    @abstractmethod
    def _graph(self, inputs: Tensor, targets: Tensor) -> Graph:
        """What products with one batch, with its weight in the mean, are computed from."""

    @abstractmethod
    def _product(self, graph: Graph, parts: list[Tensor], keep: bool) -> list[Tensor]:
        """The product of one batch; its graph is used again where it is kept."""

    def _graphs(self) -> Iterator[tuple[Graph, bool]]:
        """The graph of every batch, and whether it is kept."""
        if self._keeping is None:
            self._keeping = self._how_many_to_keep()
        for k, (inputs, targets) in enumerate(self.batches):
            if k in self._kept:
                graph = self._kept[k]
            else:
                graph = self._drawn_alike(k, inputs, targets)
            if k < self._keeping:
                self._kept[k] = graph
            yield graph, k < self._keeping

    def _drawn_alike(self, k: int, inputs: Tensor, targets: Tensor) -> Graph:
        """A graph in which the network draws the same each time, if it draws.

        Threads share the generators: what changes them is done by one thread at a time.
        """
        if not self._draws:
            return self._graph(inputs, targets)
        with ONE_AT_A_TIME, kept([self.device]):
            seed_network(derive_key(self._seed, f"pass {k}").lo, self.device)
            before = snapshot([self.device])
            graph = self._graph(inputs, targets)
            self._draws = snapshot([self.device]) != before
        return graph

    def _how_many_to_keep(self) -> int:
        """How many of the first batches have graphs that fit into the memory that is allowed."""
        if not self.graph_memory:
            return len(self.batches) if self.graph_memory is None else 0
        inputs, targets = (tensor[:2] for tensor in self.batches[0])
        fixed = {
            t.untyped_storage().data_ptr() for t in (*self.network.parameters(), *self.network.buffers())
        }
        per_example = bytes_held(lambda: self._graph(inputs, targets), fixed) / len(inputs)
        own = self.size * self.parameters[0].element_size()
        left, kept = float(self.graph_memory), 0
        for batch in self.batches:
            left -= per_example * len(batch[0]) + own
            if left < 0:
                break
            kept += 1
        return kept

    def _mean(self, value: Tensor, count: int) -> Tensor:
        """The share of a batch of ``count`` examples in the mean over all of them."""
        return value.mean() * (count / self.examples)

    def _converted(self, batch: Batch) -> Batch:
        inputs, targets = batch
        require_tensor(inputs)
        return (inputs.to(self.dtype) if inputs.dtype in HALF else inputs), targets


class HessianProducts(Products[tuple[Tensor, list[Tensor]]]):
    """H = ∇²C of the mean loss C: ``HessianProducts(network, loss, batches) @ v`` is Hv, ``[P]``.

    Reverse over reverse: Hv = ∇⟨∇C, v⟩ (Pearlmutter 1994). Unit C/θ². A product costs three gradients, each
    further one two. For the arguments see :class:`Products`.
    """

    _found: tuple[float, Tensor] | None = None

    def of_first(self, count: int) -> "HessianProducts":
        """The Hessian of the mean over the first ``count`` of the examples."""
        left, batches = count, []
        for inputs, targets in self.batches:
            batches.append((inputs[:left], targets[:left]))
            left -= len(batches[-1][0])
        return HessianProducts(self.network, self.loss, batches, self.graph_memory)

    @property
    def gradient(self) -> Tensor:
        """∇C, ``[P]``."""
        return self._cost_and_gradient()[1]

    @property
    def cost(self) -> float:
        """C."""
        return self._cost_and_gradient()[0]

    def _cost_and_gradient(self) -> tuple[float, Tensor]:
        if self._found is None:
            with twice_differentiable(self.network):
                for _ in self._graphs():
                    pass
        assert self._found is not None, "a pass over all graphs leaves it behind"
        return self._found

    def _graphs(self) -> Iterator[tuple[tuple[Tensor, list[Tensor]], bool]]:
        """The graphs; the first pass over all of them sums up cost and gradient too."""
        if self._found is not None:
            yield from super()._graphs()
            return
        cost = torch.zeros((), dtype=torch.float64, device=self.device)
        gradient = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        for graph, is_kept in super()._graphs():
            cost += graph[0]
            gradient += self.flat([g.detach() for g in graph[1]])
            yield graph, is_kept
        self._found = float(cost), gradient

    def _graph(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, list[Tensor]]:
        cost = self._mean(self.loss(outputs_of(self.network, inputs), targets), len(inputs))
        return cost.detach(), gradient_of(cost, self.parameters, with_graph=True)

    def _product(self, graph: tuple[Tensor, list[Tensor]], parts: list[Tensor], keep: bool) -> list[Tensor]:
        return transposed_product(graph[1], self.parameters, parts, keep)


class GaussNewtonProducts(Products[tuple[Tensor, list[Tensor], Tensor, Tensor, list[Tensor]]]):
    """G = mean JᵀH_fJ, with J the outputs' derivative by the parameters and H_f the loss's Hessian by the
    outputs f: the part of the Hessian that a linearised network has; for cross-entropy the Fisher matrix.

    Two passes back through the network: Jv as the derivative of Jᵀu by u, and Jᵀ of the rest (Martens 2010).
    Unit C/θ². A product costs about three gradients, each further one about one and a half. For the
    arguments see :class:`Products`.

    Raises:
        UserError: outputs that are no tensor, beside what :class:`Products` raises.
    """

    def _graph(
        self, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, list[Tensor], Tensor, Tensor, list[Tensor]]:
        outputs = outputs_of(self.network, inputs)
        if not isinstance(outputs, Tensor):
            kind = type(outputs).__name__
            raise UserError(f"GaussNewtonProducts: the network's outputs are a {kind}; allowed: one tensor")
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = gradient_of((outputs * u).sum(), self.parameters, with_graph=True)
        f = outputs.detach().requires_grad_()
        cost = self._mean(self.loss(f, targets), len(inputs))
        slope = gradient_of(cost, [f], with_graph=True)
        return outputs, pulled, u, f, slope

    def _product(
        self,
        graph: tuple[Tensor, list[Tensor], Tensor, Tensor, list[Tensor]],
        parts: list[Tensor],
        keep: bool,
    ) -> list[Tensor]:
        outputs, pulled, u, f, slope = graph
        pushed = transposed_product(pulled, [u], parts, True)
        bent = transposed_product(slope, [f], pushed, True)
        return transposed_product([outputs], self.parameters, bent, keep)


def transposed_product(
    values: Sequence[Tensor], leaves: Sequence[Tensor], weights: Sequence[Tensor], keep: bool
) -> list[Tensor]:
    """Σ_i (∂values_i/∂leaves)ᵀ weights_i, of the leaves' shapes; zeros where nothing depends on a leaf."""
    pairs = [(value, weight) for value, weight in zip(values, weights, strict=True) if value.requires_grad]
    if not pairs:
        return [torch.zeros_like(leaf) for leaf in leaves]
    values, weights = zip(*pairs, strict=True)
    found = torch.autograd.grad(values, leaves, weights, retain_graph=keep, materialize_grads=True)
    return list(found)


def bytes_held(make: Callable[[], object], without: set[int]) -> int:
    """How many bytes the graph of what ``make`` makes holds, without some storages, named by address."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        made = make()  # alive meanwhile, else addresses would come back
    del made
    return sum(size for address, size in sizes.items() if address not in without)


@contextmanager
def twice_differentiable(network: nn.Module) -> Iterator[None]:
    """Inside, gradients are recorded, in full precision and by operations that have a second derivative; the
    network's buffers and random generators stay.

    Raises:
        UserError: the network has an operation that has none.
    """
    convolution.register()
    weight_norm.register()
    with preserved(network), torch.inference_mode(False), torch.enable_grad(), second_derivatives(network):
        try:
            yield
        except RuntimeError as error:
            missing = _NO_SECOND_DERIVATIVE.search(str(error))
            if missing is None:
                raise
            raise UserError(
                f"network: {type(network).__name__} has an operation without a second derivative "
                f"({missing[1] or missing[2]}), so that its curvature is not known; allowed: other operations"
            ) from error


_NO_SECOND_DERIVATIVE = re.compile(
    r"derivative for '?(?:aten::)?(\w+)'? is not implemented|marked with (@once_differentiable)"
)
