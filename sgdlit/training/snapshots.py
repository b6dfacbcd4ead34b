"""At which steps a run leaves a snapshot, and what is in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sgdlit.foundations.errors import UserError
from sgdlit.runs.snapshots import save_snapshot
from sgdlit.training import rows
from sgdlit.training.divergence import finite_members
from sgdlit.training.log_spaced_validation import next_log_spaced
from sgdlit.training.module import Training

_MOST_UPDATES_BACK = 2  # that a measure looks back at


@dataclass(frozen=True)
class Snapshots:
    """Snapshots at step 0 and at steps close to first · 2^(k/per_doubling), k = 0, 1, …

    Args:
        first: the first of them after step 0.
        per_doubling: steps until their number has doubled.
        optimizer: whether the optimizer's state is kept too, which some measures need (Adam's averages).
        before: whether the parameters one and two updates before each of these steps are kept too, for
            measures that look back at them.

    Raises:
        UserError: below 1.
    """

    first: int = 1
    per_doubling: int = 2
    optimizer: bool = False
    before: bool = False

    def __post_init__(self) -> None:
        for name, value in {"first": self.first, "per_doubling": self.per_doubling}.items():
            if value < 1:
                raise UserError(f"checkpoints.snapshots.{name}: {value} is not possible; allowed: 1 or more")

    def next_due(self, step: int) -> int:
        """The first step after ``step`` at which a file is written."""
        back = range(_MOST_UPDATES_BACK + 1 if self.before else 1)
        return min(next_log_spaced(step + b, self.first, self.per_doubling) - b for b in back)

    def is_due(self, step: int) -> bool:
        """Whether a step is one of those that are measured."""
        return step == 0 or next_log_spaced(step - 1, self.first, self.per_doubling) == step

    def write(self, trainer: Trainer, module: LightningModule, folder: Path) -> None:
        """Write what is due at the trainer's step; several ranks call this at the same steps.

        Raises:
            UserError: a file cannot be written.
        """
        step = trainer.global_step
        due = self.is_due(step)
        if not due and not (step and self.next_due(step - 1) == step):
            return
        content = self._content(trainer, module)
        if trainer.is_global_zero and any(finite_members(module)):
            save_snapshot(folder, content, looked_back_at=not due)

    def _content(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
        if not self.optimizer:
            optimizers = [{"state": {}, "param_groups": own["param_groups"]} for own in optimizers]
        content: dict[str, Any] = {
            "global_step": trainer.global_step,
            "state_dict": module.state_dict(),
            "optimizer_states": optimizers,
            "lr_schedulers": [],
        }
        if isinstance(module, Training) and module.several and trainer.world_size > 1:
            rows.collect(content, module.owned, trainer.world_size)
        return _on_the_host(content)


def _on_the_host(content: Any) -> Any:
    """Copies of the tensors of a tree, each with no more memory than its own."""
    if isinstance(content, Tensor):
        return torch.empty_like(content, device="cpu").copy_(content)
    if isinstance(content, dict):
        return {name: _on_the_host(part) for name, part in content.items()}
    return [_on_the_host(part) for part in content] if isinstance(content, list) else content
