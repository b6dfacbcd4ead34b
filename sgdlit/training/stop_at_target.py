"""Steps to a target: a run that has reached it need not go on."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.training.module import Training, networks_of


class StopAtTarget(Callback):
    """Ends training at the first evaluation at which a metric has reached its target.

    ``steps`` has, for each member, the number of updates made then, or None. An ensemble ends when every
    member has reached the target or has diverged. What is evaluated more often is known more exactly:
    see :class:`sgdlit.training.log_spaced_validation.LogSpacedValidation`.

    Args:
        metric: name of an evaluated number, such as ``val/accuracy``.
        at_least: the target of a number that rises.
        at_most: the target of a number that falls; one of the two.

    Raises:
        UserError: no target or two; a metric that is not evaluated.
    """

    def __init__(self, metric: str, at_least: float | None = None, at_most: float | None = None) -> None:
        if (at_least is None) == (at_most is None):
            raise UserError(
                f"StopAtTarget: at_least: {at_least} with at_most: {at_most} is not possible; allowed: one "
                "of the two"
            )
        self.metric, self.at_least, self.at_most = metric, at_least, at_most
        self.steps: list[int | None] = []

    def check(self, trainer: Trainer, module: LightningModule, datamodule: Any) -> None:
        """Refuse a metric that is never evaluated, as far as that is known before."""
        if isinstance(module, Training):
            module.check_awaited(trainer, datamodule, {"StopAtTarget.metric": self.metric})

    def next_due(self, step: int) -> None:
        """It acts at evaluations only."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.steps = self.steps or [None] * len(networks_of(pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        for k, row in enumerate(_evaluated(trainer, pl_module)):
            if self.metric not in row:
                raise UserError(
                    f"StopAtTarget.metric: {self.metric!r} is not evaluated; allowed: "
                    f"{', '.join(sorted(row))}"
                )
            if self.steps[k] is None and self._is_reached(row[self.metric]):
                self.steps[k] = trainer.global_step
        diverged = pl_module.diverged_at if isinstance(pl_module, Training) else [None]
        if all(s is not None or d is not None for s, d in zip(self.steps, diverged, strict=True)):
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            reached = [step for step in self.steps if step is not None]
            when = f"from step {min(reached)} on" if reached else "not yet"
            of = f" by {len(reached)} of {len(self.steps)} members" if len(self.steps) > 1 else ""
            say(f"target {self._target()} reached{of}: {when}")

    def _is_reached(self, value: float) -> bool:
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most

    def _target(self) -> str:
        if self.at_least is not None:
            return f"{self.metric} ≥ {self.at_least:g}"
        return f"{self.metric} ≤ {self.at_most:g}"

    def state_dict(self) -> dict[str, Any]:
        return {"members": list(self.steps)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps = list(state_dict["members"])


def _evaluated(trainer: Trainer, module: LightningModule) -> list[dict[str, float]]:
    """The last evaluation of each run."""
    if isinstance(module, Training):
        return module.evaluated()
    return [{name: float(v) for name, v in trainer.callback_metrics.items() if not name.startswith("train/")}]
