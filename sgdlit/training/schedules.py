"""Learning-rate schedules that torch does not have; all others come from ``torch.optim.lr_scheduler``."""

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

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
