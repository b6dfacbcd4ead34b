"""The one interface of gradient transforms: (the examples of a step, state, step) → gradient and state.

Everything is flat: a gradient is a vector of all P trained parameters. All tensors may have leading
dimensions of runs, written ``...``, which a study uses and a training does not.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sgdlit.foundations.errors import UserError
from sgdlit.objectives import Loss

State = dict[str, Tensor]


@dataclass(frozen=True)
class Examples:
    """What a transform may look at: the n examples of a step, at the parameters before it.

    Args:
        losses: ℓ_i, ``[..., n]``, without a graph.
        targets: ``[..., n]``, or ``[n, ...]`` of a network.
        parameters: θ, ``[..., P]``.
        weighted: weights w, ``[..., n]`` → the gradient of Σ_i w_i ℓ_i, ``[..., P]``.
        each: → the gradient of every ℓ_i, ``[..., n, P]``.
        is_weight: bool ``[P]``, which numbers belong to tensors of two dimensions or more.
    """

    losses: Tensor
    targets: Tensor
    parameters: Tensor
    weighted: Callable[[Tensor], Tensor]
    each: Callable[[], Tensor]
    is_weight: Tensor

    @property
    def count(self) -> int:
        """n."""
        return self.losses.shape[-1]

    def mean_gradient(self) -> Tensor:
        """The gradient of the mean loss, ``[..., P]``."""
        return self.weighted(torch.full_like(self.losses, 1 / self.count))

    @classmethod
    def of_gradients(
        cls, losses: Tensor, targets: Tensor, parameters: Tensor, gradients: Tensor
    ) -> "Examples":
        """Of known gradients ``[..., n, P]``; every parameter counts as a weight."""

        def weighted(weights: Tensor) -> Tensor:
            return (weights.unsqueeze(-2) @ gradients).squeeze(-2)

        every = torch.ones(parameters.shape[-1], dtype=torch.bool, device=parameters.device)
        return cls(losses, targets, parameters, weighted, lambda: gradients, every)

    @classmethod
    def of_network(
        cls, network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor
    ) -> "tuple[Examples, Tensor]":
        """Of a batch ``[n, ...]``, with what the network makes of it, which has no graph.

        One forward pass, with a backward pass for each call of ``weighted``; ``each`` is a vectorised pass
        of its own and holds n·P numbers.
        """
        named = {name: p for name, p in network.named_parameters() if p.requires_grad}
        parameters = list(named.values())
        with torch.enable_grad():
            outputs = network(inputs)
            losses = loss.per_example(outputs, targets)

        def weighted(weights: Tensor) -> Tensor:
            total = (weights.detach().to(losses) * losses).sum()
            found = torch.autograd.grad(total, parameters, retain_graph=True, materialize_grads=True)
            return torch.cat([g.flatten() for g in found])

        def each() -> Tensor:
            return _each(network, loss, named, inputs, targets)

        flat = torch.cat([p.detach().flatten() for p in parameters])
        weights = torch.cat([torch.full((p.numel(),), p.dim() > 1, device=p.device) for p in parameters])
        return cls(losses.detach(), targets, flat, weighted, each, weights), outputs.detach()


def _each(
    network: nn.Module, loss: Loss, parameters: dict[str, nn.Parameter], inputs: Tensor, targets: Tensor
) -> Tensor:
    def cost(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss.per_example(functional_call(network, values, (x.unsqueeze(0),)), y.unsqueeze(0)).sum()

    values = {name: p.detach() for name, p in parameters.items()}
    found = vmap(grad(cost), (None, 0, 0))(values, inputs, targets)
    return torch.cat([found[name].flatten(1) for name in parameters], 1)


class GradientTransform(ABC):
    """transform(examples, state, step) → (what the optimizer receives, ``[..., P]``; the new state).

    It changes nothing that it is given: the same call gives the same result. What it draws is a function of
    its seed and the step.

    ``needs_each`` says that it looks at the gradients of single examples, ``small`` holds the arguments of
    some small ones: all of them are tested.
    """

    needs_each: ClassVar[bool] = False
    small: ClassVar[tuple[dict[str, Any], ...]] = ({},)

    def start(self, parameters: Tensor) -> State:
        """The state before the first step, for parameters ``[..., P]``."""
        return {}

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse, before a run, data or a network that the transform cannot work with.

        Args:
            outputs: of the network for one example, ``[1, ...]``.
            targets: of that example, ``[1, ...]``.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """

    @abstractmethod
    def __call__(self, examples: Examples, state: State, step: int) -> tuple[Tensor, State]:
        """The gradient for update number ``step``, counted from 0, and the state after it."""


def check_separable(network: nn.Module, who: str) -> None:
    """Refuse a network whose examples have no gradient of their own.

    Args:
        network: to be trained.
        who: needs those gradients, for the message.

    Raises:
        UserError: BatchNorm, or Dropout.
    """
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) or (isinstance(module, _DropoutNd) and module.p > 0):
            raise UserError(
                f"model.network.{name}: {type(module).__name__} lets no example have a gradient of its "
                f"own, which "
                f"{who} needs; allowed: a network without BatchNorm and Dropout"
            )


class TransformOfRun:
    """A transform with the state of one run: a step that is asked for again starts from where it did before.

    Args:
        transform: what is done.
    """

    def __init__(self, transform: GradientTransform) -> None:
        self.transform = transform
        self.begin_again()

    def begin_again(self) -> None:
        """As before the first step."""
        self._step: int | None = None
        self._before: State | None = None
        self._after: State | None = None

    def gradient(self, examples: Examples, step: int, keep: bool = True) -> Tensor:
        """What the optimizer receives at a step, ``[P]``.

        Args:
            examples: of the step.
            step: its number, counted from 0.
            keep: whether the step is taken; else it is only looked at.
        """
        before = self._before if step == self._step else self._after
        if before is None:
            before = self.transform.start(examples.parameters)
        before = {name: tensor.to(examples.parameters.device) for name, tensor in before.items()}
        gradient, after = self.transform(examples, before, step)
        if keep:
            self._step, self._before, self._after = step, before, after
        return gradient

    def state_dict(self) -> State:
        """After the last step."""
        return {} if self._after is None else {name: t.clone() for name, t in self._after.items()}

    def load_state_dict(self, state: State) -> None:
        """Go on from there."""
        self._step, self._before, self._after = None, None, {n: t.clone() for n, t in state.items()} or None
