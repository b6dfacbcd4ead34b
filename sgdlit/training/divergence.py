"""Divergence is a result: a run whose loss is not finite stops, and the step is recorded.

Losses are kept on the device and looked at together, so no step waits for the host.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from sgdlit.training.clock import end_training_here, step_is_complete, validation_is_due
from sgdlit.training.module import Training, networks_of

_NEVER = 2**62


class DivergenceGuard(Callback):
    """Stops a run at the first loss that is NaN or infinite, and knows at which step that was.

    Works with any LightningModule whose ``training_step`` returns a loss, or ``losses`` of several steps (and
    members) ``[steps, members]``. ``steps`` has, for each member, the number of updates made when its loss
    stopped being finite; None while all is well. The run stops when no member is left. The losses are looked
    at every ``trainer.log_every_n_steps`` steps, and before each validation and each checkpoint, together
    with the parameters: where these are not finite, neither is the next loss. An evaluation whose loss is not
    finite counts as well.
    """

    def __init__(self) -> None:
        self.steps: list[int | None] = [None]
        self._losses = torch.empty(0)
        self._first = self._count = 0
        self._limits: tuple[int, int | float] | None = None

    @property
    def step(self) -> int | None:
        """When the run as a whole had diverged: the last of its members."""
        known = [step for step in self.steps if step is not None]
        return max(known) if len(known) == len(self.steps) else None

    def next_due(self, step: int) -> None:
        """Calls of many steps are looked at as they are."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        members = len(networks_of(pl_module))
        if len(self.steps) != members or members == 1:  # else they are those of a resumed checkpoint
            self.steps = [None] * members
        if isinstance(pl_module, Training):
            pl_module.diverged_at = self.steps
        self._limits = None
        self._losses = torch.zeros(max(1, trainer.log_every_n_steps), members, device=pl_module.device)
        self._first, self._count = trainer.global_step, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        outputs = outputs if isinstance(outputs, dict) else {"loss": outputs}
        losses, steps = outputs.get("losses", outputs.get("loss")), 1
        if losses is not None:
            losses = losses.detach().reshape(-1, len(self.steps))
            steps = len(losses)
            self._losses[self._count : self._count + steps] += losses  # over the micro-batches of a step
        if not step_is_complete(trainer):
            return
        self._count += steps
        if validation_is_due(trainer):
            self.look(trainer, parameters=True)
        elif trainer.global_step % len(self._losses) == 0 or self._count == len(self._losses):
            self.look(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The loss of an evaluation counts too: it is that of the parameters after this step."""
        if trainer.state.fn == TrainerFn.FITTING:
            known = isinstance(pl_module, Training)
            finite = pl_module.evaluations_are_finite() if known else [_metrics_are_finite(trainer)]
            self._record(trainer, [_NEVER if ok else trainer.global_step for ok in finite])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.look(trainer, parameters=True)
        if self._limits is not None:
            trainer.fit_loop.epoch_loop.max_steps, trainer.limit_val_batches = self._limits

    def state_dict(self) -> dict[str, Any]:
        return {"members": list(self.steps)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps = list(state_dict["members"])

    def look(self, trainer: Trainer, parameters: bool = False) -> None:
        """Examine the losses since the last look; the only place where the host waits for the device."""
        bad = ~torch.isfinite(self._losses[: self._count])
        first: list[int] = [_NEVER] * len(self.steps)
        if self._count:
            first = torch.where(bad.any(0), self._first + bad.int().argmax(0), _NEVER).tolist()
        if parameters:
            finite = finite_members(trainer.lightning_module)
            first = [f if ok else min(f, trainer.global_step) for f, ok in zip(first, finite, strict=True)]
        if trainer.world_size > 1:
            over_ranks = torch.tensor(first, device=self._losses.device)
            torch.distributed.all_reduce(over_ranks, op=torch.distributed.ReduceOp.MIN)
            first = over_ranks.tolist()
        self._record(trainer, first)
        self._losses.zero_()
        self._first, self._count = trainer.global_step, 0

    def _record(self, trainer: Trainer, first: Sequence[int]) -> None:
        """Note the members whose loss stopped being finite, and stop when none is left."""
        over = self.step is not None
        for k, step in enumerate(first):
            if self.steps[k] is None and step != _NEVER:
                self.steps[k] = step
        if self.step is not None and not over:
            self._limits = (end_training_here(trainer), trainer.limit_val_batches)
            trainer.limit_val_batches = 0  # an evaluation of parameters that are not finite says nothing


def _metrics_are_finite(trainer: Trainer) -> bool:
    known = trainer.callback_metrics.items()
    losses = [loss for name, loss in known if name.endswith("/loss") and not name.startswith("train/")]
    return all(bool(loss.isfinite()) for loss in losses)


def finite_members(module: LightningModule) -> list[bool]:
    """Whether the parameters of each member hold neither a NaN nor an infinity; one wait for the device."""
    finite = []
    for network in networks_of(module):
        parameters = [p.detach() for p in network.parameters() if p.is_floating_point() and p.numel()]
        largest = torch._foreach_norm(parameters, float("inf"))
        finite.append(torch.stack([x.float() for x in largest] or [torch.zeros(())]).isfinite().all())
    return torch.stack(finite).tolist()


def diverged(trainer: Trainer) -> bool:
    """Whether the loss or the parameters of every member have stopped being finite by now."""
    guards = [callback for callback in trainer.callbacks if isinstance(callback, DivergenceGuard)]
    for guard in guards:
        guard.look(trainer, parameters=True)
    return any(guard.step is not None for guard in guards)
