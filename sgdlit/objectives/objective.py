"""What the objectives share: what they return, how a batch is cut for the penalty, BatchNorm's statistics.

Every objective evaluates the modified loss (see ``penalty``), averaged over batches of ``penalty_batch_size``
contiguous examples of the step's global batch. How many ranks share that batch does not change its value: a
rank that holds several of those batches takes them one by one, and where one of them lies over several ranks,
those exchange their gradients.
"""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from sgdlit.foundations.errors import UserError
from sgdlit.objectives.losses import Loss
from sgdlit.objectives.penalty import (
    Ranks,
    check_strength,
    refuse_second_derivative,
    squared_gradient_norm,
)


class Evaluation(NamedTuple):
    """What an objective found on this rank's slice of a batch.

    Only ``loss`` has a graph: the modified loss, to call ``backward`` on. The other three are detached:
    ``cost`` is the mean loss C; ``squared_norm`` is mean_k ‖∇C_k‖² = 4 C_reg, or None if λ = 0; ``outputs``
    are the network's, (batch, ...). Means over ranks of loss, cost and squared_norm are those of the global
    batch.
    """

    loss: Tensor
    cost: Tensor
    squared_norm: Tensor | None
    outputs: Tensor


class Objective(ABC):
    """objective(network, loss, inputs, targets, reg_strength) -> Evaluation.

    BatchNorm's running statistics move once per call, by the first batch of the penalty.

    Args:
        penalty_batch_size: number of examples of the global batch over which each gradient norm is taken;
            None means the whole global batch. It divides this rank's slice, or is a multiple of it that
            divides the global batch.
    """

    small: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    """Arguments with which it is tested against the exact gradient, on smooth networks in float64."""
    gradients: ClassVar[int] = 3
    """What an example costs at λ > 0, in gradients of one example: here one, and a product with H."""

    def __init__(self, penalty_batch_size: int | None = None) -> None:
        if penalty_batch_size is not None and penalty_batch_size < 1:
            raise UserError(f"penalty_batch_size: {penalty_batch_size} is not allowed; give 1 or more")
        self.penalty_batch_size = penalty_batch_size
        self._accepted: weakref.ref | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what holds for this process alone."""
        return {**self.__dict__, "_accepted": None}

    def accept(self, network: nn.Module) -> None:
        """``check_network``, once per network: walking through its modules at every step would cost time."""
        if self._accepted is None or self._accepted() is not network:
            self.check_network(network)
            self._accepted = weakref.ref(network)

    def __call__(
        self, network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, reg_strength: float
    ) -> Evaluation:
        """Evaluate the modified loss of a batch of inputs (batch, ...) and targets (batch, ...).

        Raises:
            UserError: λ negative or not finite; a penalty_batch_size that does not fit the batch and the
                number of ranks; a network that this objective cannot differentiate.
        """
        check_strength(reg_strength)
        if reg_strength == 0:
            return self.evaluate_plain(network, loss, inputs, targets)
        self.accept(network)
        size, ranks = penalty_scope(self.penalty_batch_size, len(inputs))
        parts = []
        for k, (x, y) in enumerate(zip(inputs.split(size), targets.split(size), strict=True)):
            with frozen_statistics(network) if k else nullcontext():
                parts.append(self.evaluate_penalized(network, loss, x, y, reg_strength, ranks))
        return mean_of(parts)

    def measure(self, network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> Tensor:
        """mean_k ‖∇C_k‖² = 4 C_reg of a batch, detached; BatchNorm's statistics stay."""
        size, ranks = penalty_scope(self.penalty_batch_size, len(inputs))
        batches = zip(inputs.split(size), targets.split(size), strict=True)
        with frozen_statistics(network):
            norms = [squared_gradient_norm(network, loss, x, y, ranks) for x, y in batches]
        return torch.stack(norms).mean()

    def evaluate_plain(self, network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> Evaluation:
        """The objective at λ = 0: C and nothing else."""
        outputs = network(inputs)
        cost = loss(outputs, targets)
        return Evaluation(cost, cost.detach(), None, outputs.detach())

    @abstractmethod
    def check_network(self, network: nn.Module) -> None:
        """Raise UserError if this objective cannot differentiate the network."""

    @abstractmethod
    def evaluate_penalized(
        self,
        network: nn.Module,
        loss: Loss,
        inputs: Tensor,
        targets: Tensor,
        reg_strength: float,
        ranks: Ranks,
    ) -> Evaluation:
        """The modified loss of one batch, shared with ``ranks``."""


def mean_of(parts: list[Evaluation]) -> Evaluation:
    """One evaluation for batches of equal size."""
    if len(parts) == 1:
        return parts[0]
    loss, cost, squared_norm = (torch.stack(values).mean() for values in list(zip(*parts, strict=True))[:3])
    return Evaluation(loss, cost, squared_norm, torch.cat([part.outputs for part in parts]))


def penalty_scope(penalty_batch_size: int | None, local_batch: int) -> tuple[int, Ranks]:
    """How many of this rank's examples go into one batch of the penalty, and which ranks share it.

    Raises:
        UserError: if the penalty's batches neither divide a rank's slice nor consist of whole slices.
    """
    world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if penalty_batch_size is None or penalty_batch_size == local_batch * world:
        return local_batch, "world"
    if local_batch % penalty_batch_size == 0:
        return penalty_batch_size, "local"
    span, rest = divmod(penalty_batch_size, local_batch)
    if rest == 0 and world % span == 0:
        return local_batch, contiguous_ranks(dist.group.WORLD, span)
    allowed = allowed_sizes(local_batch, world)
    raise UserError(
        f"penalty_batch_size: {penalty_batch_size} does not fit a batch of {local_batch * world} examples on "
        f"{world} rank(s); allowed are {', '.join(map(str, allowed))}"
    )


def allowed_sizes(local_batch: int, world: int) -> list[int]:
    """The sizes of the penalty's batches that suit a global batch of local_batch x world examples."""
    within = [size for size in range(1, local_batch + 1) if local_batch % size == 0]
    across = [local_batch * span for span in range(2, world + 1) if world % span == 0]
    return within + across


@cache
def contiguous_ranks(world: "dist.ProcessGroup", span: int) -> "dist.ProcessGroup":
    """The group of ``span`` neighbouring ranks that this one belongs to; every rank has to ask for it."""
    return dist.new_subgroups(span, group=world)[0]


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Inside, BatchNorm in training mode uses the batch's statistics but does not update the running ones."""
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def refuse_compiled(network: nn.Module, objective: str) -> None:
    """Raise UserError if torch.compile was applied to the network itself or to a part of it."""
    if any("_orig_mod" in m._modules or m._compiled_call_impl is not None for m in network.modules()):
        raise UserError(
            f"{objective} cannot differentiate a network that torch.compile was applied to; give the network "
            "as it is, and compile whole steps instead: engine compiled"
        )


class PrecomputedGradient(torch.autograd.Function):
    """A scalar with a given value whose backward hands given gradients to the parameters.

    For gradients that no graph stands for. Whatever acts on a loss or on gradients afterwards (scaling,
    accumulation, DDP's mean, clipping) acts as usual.
    """

    @staticmethod
    def forward(ctx, value, gradient, *parameters):
        ctx.gradient = gradient
        return value.clone()

    @staticmethod
    def backward(ctx, grad_output):
        refuse_second_derivative()
        factor = grad_output.to(ctx.gradient[0].dtype)
        return None, None, *torch._foreach_mul(ctx.gradient, factor)
