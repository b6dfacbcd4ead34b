"""Iterate averaging: a moving average of the parameters is evaluated, while SGD goes on."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.training.clock import step_is_complete
from sgdlit.training.module import networks_of


class IterateAverage(Callback):
    """Keeps θ̃ ← μ θ̃ + (1 − μ) θ after every update, from θ̃_0 = θ_0, and evaluates θ̃ in place of θ.

    With ``polynomial`` = γ the average after update t is θ̃ ← (1 − c_t) θ̃ + c_t θ, c_t = (1 + γ)/(t + γ): θ̃
    = θ_1 first, and weights of the iterates that grow about as t^γ (Shamir & Zhang 2013, 1212.1824; part of
    DoG, Ivgi et al. 2023, 2302.12022).

    Training is not changed, and checkpoints hold θ, with θ̃ as this callback's state. See F9 of the noisy
    quadratic model (``sgdlit.theory``) for what it does there: nothing at large batches, much at small ones.

    Args:
        decay: μ; 0 evaluates θ itself, and costs nothing.
        polynomial: γ, in place of μ; 0 is the mean of all iterates.

    Raises:
        UserError: μ not in [0, 1), γ below 0.
    """

    def __init__(self, decay: float = 0.99, polynomial: float | None = None) -> None:
        if not 0 <= decay < 1:
            raise UserError(
                f"IterateAverage.decay: {decay} is not possible; allowed: 0 up to, not including, 1"
            )
        if polynomial is not None and not 0 <= polynomial < float("inf"):
            raise UserError(f"IterateAverage.polynomial: {polynomial} is not possible; allowed: 0 or more")
        self.decay, self.polynomial = decay, polynomial
        self.averages: list[list[Tensor]] = []
        self._held: list[list[Tensor]] = []

    def next_due(self, step: int) -> int | None:
        """Every step."""
        return step + 1 if self.averages_at_all else None

    @property
    def averages_at_all(self) -> bool:
        return self.polynomial is not None or self.decay > 0

    def weight(self, step: int) -> float:
        """Of θ in the average after so many updates."""
        return 1 - self.decay if self.polynomial is None else (1 + self.polynomial) / (step + self.polynomial)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.averages_at_all:
            return
        runs = [_parameters(run) for run in networks_of(pl_module)]
        if not self.averages:
            self.averages = [[p.clone() for p in own] for own in runs]
        self.averages = [
            [a.to(p) for a, p in zip(kept, own, strict=True)]
            for kept, own in zip(self.averages, runs, strict=True)
        ]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.averages and step_is_complete(trainer):
            for average, run in zip(self.averages, networks_of(pl_module), strict=True):
                torch._foreach_lerp_(average, _parameters(run), self.weight(trainer.global_step))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and self.averages:
            self._held = [[p.clone() for p in _parameters(run)] for run in networks_of(pl_module)]
            self._put(pl_module, self.averages)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._held:
            self._put(pl_module, self._held)
            self._held = []

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.on_validation_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"members": [[tensor.cpu() for tensor in average] for average in self.averages]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.averages = state_dict["members"]

    @staticmethod
    def _put(module: LightningModule, values: list[list[Tensor]]) -> None:
        """Copy values into the parameters, which stay where they lie."""
        for run, tensors in zip(networks_of(module), values, strict=True):
            torch._foreach_copy_(_parameters(run), tensors)


def _parameters(network: nn.Module) -> list[Tensor]:
    return [p.detach() for p in network.parameters()]
