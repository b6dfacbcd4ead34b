"""Learning-rate schedules that torch does not have, and those that wait for evaluations.

All others come from ``torch.optim.lr_scheduler``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from sgdlit.algorithms import Member
from sgdlit.foundations.errors import UserError


class SampleWarmUp(LRScheduler):
    """Rate · min(1, start + seen/samples), where ``seen`` counts the examples of all steps so far.

    The warm-up of the matrix-sensing experiments: start = 0.1, samples = d²/4.

    Args:
        optimizer: whose rate is the one that is reached.
        samples: examples over which the factor would grow by 1.
        batch_size: examples of a step, over all ranks.
        start: factor of the first step.

    Raises:
        UserError: a number of samples or a batch size below 1; ``start`` not in [0, 1].
    """

    def __init__(
        self,
        optimizer: Optimizer,
        samples: int,
        batch_size: int = 1,
        start: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        if min(samples, batch_size) < 1:
            raise UserError(
                f"scheduler: samples: {samples}, batch_size: {batch_size} is not possible; allowed: 1 or more"
            )
        if not 0 <= start <= 1:
            raise UserError(f"scheduler.start: {start} is not possible; allowed: 0 to 1")
        self.samples, self.batch_size, self.start = samples, batch_size, start
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The rates of step ``last_epoch``, counted from 0."""
        factor = min(1.0, self.start + self.last_epoch * self.batch_size / self.samples)
        return [factor * rate for rate in self.base_lrs]


def monitor_of(scheduler: ReduceLROnPlateau) -> str:
    """The metric that a schedule by Lightning's class waits for."""
    return str(vars(scheduler)["monitor"])


def monitors_of(members: Sequence[Member]) -> dict[str, str]:
    """By its key the metric that each member's schedule waits for, where one does."""
    schedules = (member.scheduler for member in members)
    waiting = [monitor_of(each) for each in schedules if isinstance(each, ReduceLROnPlateau)]
    return {"model.scheduler.monitor": waiting[0]} if waiting else {}


def step_at_evaluation(
    members: Sequence[Member], found: Mapping[int, Mapping[str, float]], known: Mapping[str, Any]
) -> None:
    """Step schedules that wait for evaluations: before the checkpoint of this step is written.

    Args:
        members: the runs.
        found: what the evaluation found of each.
        known: what else is known of them together.

    Raises:
        UserError: one waits for what is not there.
    """
    for k, member in enumerate(members):
        if isinstance(member.scheduler, ReduceLROnPlateau):
            name, own = monitor_of(member.scheduler), {**known, **found[k]}
            if name not in own:
                raise UserError(
                    f"model.scheduler.monitor: {name!r} is not evaluated; allowed: {', '.join(found[k])}"
                )
            member.scheduler.step(float(own[name]))
