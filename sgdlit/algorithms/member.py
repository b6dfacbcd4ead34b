"""A run as plain data: what is trained, on what, and how. One run alone is one member."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from sgdlit.algorithms.parameter_groups import (
    Groups,
    freeze,
    param_groups,
    set_apart,
    trained,
)
from sgdlit.algorithms.rules import UpdateRule
from sgdlit.algorithms.transforms import Examples, GradientTransform, TransformOfRun
from sgdlit.algorithms.watching import WatchesNetwork
from sgdlit.objectives import ConstantStrength, Evaluation, ExactPenalty, Loss, Objective, Strength

Reduction = Literal["mean", "sum"]


@dataclass(eq=False)
class Member:
    """One run. Nothing here knows of Lightning.

    Args:
        network: what is trained.
        loss: the cost of one example.
        make_optimizer: parameters -> optimizer.
        make_scheduler: optimizer -> learning-rate schedule, advanced once per step; None keeps the rate.
        objective: how the regularizer is computed.
        strength: λ over steps.
        reduction: what the optimizer receives of a step's batch: the gradient of the ``mean`` over its
            examples, or of their ``sum``.
        channels_last: keep images and convolutions in channels-last memory format.
        transform: what becomes of the gradient before the optimizer sees it; None for nothing.
        learn: told the step and the gradients of its examples, ``[B, P]``, at every step, for an order that
            follows from them; None for nobody.
        point: what distinguishes the run from others that train with it, by key of the config.
        seed: with the step it decides what the network itself draws, as dropout does.
        groups: parameters that are trained in another way, or not at all, by the name of their group.
    """

    network: nn.Module
    loss: Loss
    make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = torch.optim.SGD
    make_scheduler: Callable[[Optimizer], LRScheduler | ReduceLROnPlateau] | None = None
    objective: Objective = field(default_factory=ExactPenalty)
    strength: Strength = field(default_factory=ConstantStrength)
    reduction: Reduction = "mean"
    channels_last: bool = False
    transform: GradientTransform | None = None
    learn: Callable[[int, Tensor], None] | None = None
    point: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    groups: Groups = field(default_factory=dict)
    settings: list[dict[str, Any]] = field(default_factory=list, init=False)
    """Of each group of the optimizer, as they were given: in plain types, before a schedule moved any."""
    _factor: float = field(default=1.0, init=False)  # of the rate in the optimizer's first group
    _built: tuple[Optimizer, LRScheduler | ReduceLROnPlateau | None] | None = None

    def __post_init__(self) -> None:
        self.transformed = None if self.transform is None else TransformOfRun(self.transform)
        if self.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.groups:
            freeze(self.network, self.groups)

    @property
    def optimizer(self) -> Optimizer:
        """Built when it is first asked for."""
        return self._build()[0]

    @property
    def scheduler(self) -> LRScheduler | ReduceLROnPlateau | None:
        """Of the optimizer."""
        return self._build()[1]

    def _build(self) -> tuple[Optimizer, LRScheduler | ReduceLROnPlateau | None]:
        if self._built is None:
            optimizer = self._make_optimizer()
            if isinstance(optimizer, WatchesNetwork):
                optimizer.watch(self.network, self.loss)
            self.settings = [_plain_settings(group) for group in optimizer.param_groups]
            groups = trained(self.network, self.groups) if self.groups else []
            for settings, (_, names) in zip(self.settings, groups, strict=False):
                settings["parameters"] = names
            first = groups[0][0] if groups else None
            self._factor = first.rate if first is not None and first.rate else 1.0
            self._built = optimizer, self.make_scheduler(optimizer) if self.make_scheduler else None
        return self._built

    def _make_optimizer(self) -> Optimizer:
        if not self.groups:
            return self.make_optimizer(self.network.parameters())
        optimizer = self.make_optimizer(param_groups(self.network, self.groups))
        set_apart(optimizer, self.network, self.groups)
        return optimizer

    def begin_again(self) -> None:
        """Forget the optimizer with its state; the next one is new."""
        self._built = None

    @property
    def lr(self) -> float:
        """The present learning rate, of parameters in no group."""
        return float(self.optimizer.param_groups[0]["lr"]) / self._factor

    @property
    def is_penalized(self) -> bool:
        """Whether there is a regularizer at any step."""
        return self.strength != ConstantStrength(0.0)

    def reg_strength(self, step: int) -> float:
        """λ of update number ``step``, at the present learning rate."""
        return self.strength(step, self.lr)

    def gradient_factor(self, examples: int) -> int:
        """Turns the gradient of the mean over a batch into what the optimizer receives: B for ``sum``, 1 for
        ``mean``."""
        return examples if self.reduction == "sum" else 1

    def in_memory_format(self, inputs: Tensor) -> Tensor:
        """Inputs as the network wants them in memory."""
        return inputs.contiguous(memory_format=torch.channels_last) if self.channels_last else inputs

    def outputs(self, inputs: Tensor) -> Tensor:
        """What the network makes of inputs ``[B, ...]``."""
        return self.network(self.in_memory_format(inputs))

    def evaluate(
        self, inputs: Tensor, targets: Tensor, step: int, keep: bool = True, measure: bool = False
    ) -> Evaluation:
        """What is differentiated at update number ``step``: its gradient is what the optimizer receives.

        Args:
            inputs: of the batch, in the memory format of the network.
            targets: of the batch.
            step: counted from 0.
            keep: whether the step is taken, which moves the state of a transform; else it is only looked at.
            measure: whether ``squared_norm`` is asked for also where λ = 0 and something is done to the
                gradient.
        """
        if self.transformed is None and (self.learn is None or not keep):
            return self.objective(self.network, self.loss, inputs, targets, self.reg_strength(step))
        examples, outputs = Examples.of_network(self.network, self.loss, inputs, targets)
        if self.learn is not None and keep:
            self.learn(step, examples.each())
        if self.transformed is None:
            return self.objective(self.network, self.loss, inputs, targets, self.reg_strength(step))
        cost = examples.losses.mean()
        gradient = self.transformed.gradient(examples, step, keep)
        squared_norm = examples.mean_gradient().square().sum() if measure else None
        return Evaluation(self._with_gradient(cost, gradient), cost, squared_norm, outputs)

    def _with_gradient(self, cost: Tensor, gradient: Tensor) -> Tensor:
        """A scalar of the value ``cost`` whose gradient by the parameters is the given one, ``[P]``."""
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        parts = gradient.split([p.numel() for p in parameters])
        with torch.enable_grad():
            each = [((p - p.detach()).flatten() * g).sum() for p, g in zip(parameters, parts, strict=True)]
            return cost + torch.stack(each).sum()

    @property
    def looks_at_examples(self) -> str | None:
        """What looks at the examples of a step one by one, in words; None where nothing does."""
        if self.transform is not None:
            return f"model.transform: {type(self.transform).__name__} changes the gradient"
        return None if self.learn is None else "data.order: the order learns from the gradients"

    def hyperparameters(self, rule: UpdateRule, start: int, count: int) -> dict[str, Tensor]:
        """What updates ``start`` to ``start + count − 1`` need, λ as ``reg_strength`` included.

        Each is float64 ``[count]``. The schedule is advanced by ``count`` steps.
        """
        constant = rule.constant and self.scheduler is None and type(self.strength) is ConstantStrength
        if constant:
            given = rule.hyperparameters(self.optimizer.param_groups[0], start)
            given |= {"reg_strength": self.reg_strength(start)}
            return {name: torch.full((count,), v, dtype=torch.float64) for name, v in given.items()}
        each = []
        for step in range(start, start + count):
            given = rule.hyperparameters(self.optimizer.param_groups[0], step)
            each.append(given | {"reg_strength": self.reg_strength(step)})
            self.advance_schedule()
        return {name: torch.tensor([own[name] for own in each], dtype=torch.float64) for name in each[0]}

    def next_hyperparameters(self, rule: UpdateRule, step: int) -> dict[str, Tensor]:
        """What update ``step`` needs, ``[1]`` each; no schedule is advanced."""
        given = rule.hyperparameters(self.optimizer.param_groups[0], step)
        given |= {"reg_strength": self.reg_strength(step)}
        return {name: torch.tensor([value], dtype=torch.float64) for name, value in given.items()}

    def advance_schedule(self) -> None:
        """One step of the schedule, for an update that is not made by the optimizer itself."""
        if isinstance(self.scheduler, LRScheduler):
            # Else torch takes the schedule to be ahead of the updates.
            self.optimizer._opt_called = True  # type: ignore[attr-defined]
            self.scheduler.step()


def _plain_settings(group: dict[str, Any]) -> dict[str, Any]:
    """The numbers and names of a param_group."""
    plain = bool | int | float | str | None
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in group.items()
        if isinstance(value, plain) or (isinstance(value, tuple) and all(isinstance(v, plain) for v in value))
    }
