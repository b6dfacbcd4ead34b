"""The exact explicit regularizer with the whole computation of its gradient compiled into one graph.

What ``torch.compile`` makes of a network cannot be differentiated twice. Here forward pass, gradient and
double backward are traced together into one graph of plain tensor operations, and that graph is compiled.
Compiling WRN-10-1 takes about a minute on a CPU, once per shape of the batch. It pays where launching
operations is what takes the time: small networks on a GPU; on a CPU it gains little.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.batchnorm import _NormBase

from sgdlit.foundations.errors import UserError
from sgdlit.objectives.functional import costs_of, modified_gradient
from sgdlit.objectives.losses import Loss
from sgdlit.objectives.modified_loss import Ranks
from sgdlit.objectives.objective import Evaluation, Objective, PrecomputedGradient, refuse_compiled


class CompiledPenalty(Objective):
    """``ExactPenalty``, compiled: the same numbers to rounding, at λ = 0 too.

    Args:
        penalty_batch_size: see ``Objective``; at most one rank's slice of the batch, because ranks cannot
            exchange gradients in the middle of a graph.
        mode: ``torch.compile``'s: ``default``, or ``reduce-overhead``, which uses CUDA graphs.

    Raises:
        UserError: an unknown mode; when called, a network with running statistics or dropout, one that is
            compiled already, or a penalty's batch that lies over several ranks.
    """

    may_span_ranks = False

    def __init__(
        self,
        penalty_batch_size: int | None = None,
        mode: Literal["default", "reduce-overhead"] = "default",
    ) -> None:
        super().__init__(penalty_batch_size)
        if mode not in ("default", "reduce-overhead"):
            raise UserError(f"mode: {mode!r} is not known; allowed are default, reduce-overhead")
        self.mode = mode
        self.graphs: dict[Any, Callable] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Compiled graphs are neither copied nor pickled."""
        return super().__getstate__() | {"graphs": {}}

    def check_network(self, network: nn.Module) -> None:
        refuse_compiled(network, "CompiledPenalty")
        for module in network.modules():
            if isinstance(module, _NormBase | nn.modules.dropout._DropoutNd):
                raise UserError(
                    f"CompiledPenalty cannot compile {type(module).__name__}, which changes its own state or "
                    "draws random numbers; use ExactPenalty"
                )

    def evaluate_plain(self, network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> Evaluation:
        self.accept(network)
        return self.evaluate(network, loss, inputs, targets, None)

    def evaluate_penalized(
        self,
        network: nn.Module,
        loss: Loss,
        inputs: Tensor,
        targets: Tensor,
        reg_strength: float,
        ranks: "Ranks",
    ) -> Evaluation:
        if ranks != "local" and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            raise UserError(
                f"penalty_batch_size: {self.penalty_batch_size} lies over several ranks; CompiledPenalty "
                f"allows divisors of {len(inputs)}, one rank's part of the batch"
            )
        return self.evaluate(network, loss, inputs, targets, reg_strength)

    def evaluate(
        self, network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, reg_strength: float | None
    ) -> Evaluation:
        parameters = dict(network.named_parameters())
        strength = None
        if reg_strength is not None:
            like = next(iter(parameters.values()))
            strength = torch.full(
                (), reg_strength, dtype=like.dtype, device=like.device
            )  # no copy from the host
        graph = self.graph(network, loss, parameters, inputs, targets, strength)
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
            gradient, cost, squared_norm, outputs = graph(
                list(parameters.values()), inputs, targets, strength
            )
            if (
                self.mode == "reduce-overhead"
            ):  # CUDA graphs write the next step's results into the same memory
                gradient, cost, outputs = [g.clone() for g in gradient], cost.clone(), outputs.clone()
                squared_norm = None if squared_norm is None else squared_norm.clone()
            value = cost if strength is None else cost + strength / 4 * squared_norm
        trainable = [p for p in parameters.values() if p.requires_grad]
        return Evaluation(PrecomputedGradient.apply(value, gradient, *trainable), cost, squared_norm, outputs)

    def graph(
        self,
        network: nn.Module,
        loss: Loss,
        parameters: dict[str, nn.Parameter],
        inputs: Tensor,
        targets: Tensor,
        strength: Tensor | None,
    ) -> Callable:
        """The compiled gradient computation for tensors like these, under the present autocast setting."""
        device = inputs.device.type
        autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        tensors = (inputs, targets, *parameters.values())
        layout = tuple((t.shape, t.stride(), t.dtype, t.device, t.requires_grad) for t in tensors)
        key = (network, loss, network.training, strength is None, autocast, layout)
        if key not in self.graphs:
            function = gradient_function(network, loss, parameters)
            leaves = [p.detach().requires_grad_(p.requires_grad) for p in parameters.values()]
            traced = make_fx(function)(leaves, inputs, targets, strength)
            self.graphs[key] = torch.compile(traced, mode=None if self.mode == "default" else self.mode)
        return self.graphs[key]


def gradient_function(network: nn.Module, loss: Loss, parameters: dict[str, nn.Parameter]) -> Callable:
    """(parameters, inputs, targets, λ) -> (gradient of C + λ/4 ‖∇C‖², C, ‖∇C‖², outputs); λ may be None."""
    costs = costs_of(network, loss, stacked=False)

    def compute(values: list[Tensor], inputs: Tensor, targets: Tensor, strength: Tensor | None) -> tuple:
        by_name = dict(zip(parameters, values, strict=True))
        return tuple(modified_gradient(costs, by_name, inputs, targets, strength))

    return compute
