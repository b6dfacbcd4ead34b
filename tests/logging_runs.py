"""What users log of their own, and a logger that remembers what it was told, by class path."""

from typing import Any, ClassVar

from lightning.pytorch import Callback
from lightning.pytorch.loggers.logger import Logger
from own_modules import Counting
from torch import Tensor


class OwnNumbers(Callback):
    """Logs the present step, under several names and in several hooks.

    Args:
        every: steps between two values of ``own/now`` and ``own/later``.
    """

    def __init__(self, every: int = 4) -> None:
        self.every = every

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
        step = float(trainer.global_step)
        self.log("own/each", step)
        if trainer.global_step % self.every == 0:
            pl_module.log("own/now", step)
            self.log_dict({"own/later": step + 0.5, "own/twice": 2 * step})

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.log("own/epoch", float(trainer.global_step))

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.log("own/validation", float(trainer.global_step))


class Sometimes(Counting):
    """Logs a number at every fourth step of training, and the norm of the gradient at every step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.global_step % 4 == 0:
            self.log("own/sometimes", float(self.global_step))
        return super().training_step(batch, batch_idx)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.log("own/gradient", float(self.global_step))


class Recorder(Logger):
    """Remembers everything; ``last`` is the latest one that was made."""

    last: ClassVar["Recorder"]

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        self.values: dict[str, dict[int, float]] = {}
        self.twice: list[tuple[str, int]] = []
        Recorder.last = self

    @property
    def name(self) -> str:
        return "recorder"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.settings.update(params)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            own = self.values.setdefault(name, {})
            if step in own:
                self.twice.append((name, int(step or 0)))
            own[int(step or 0)] = float(value)


class Refusing(Recorder):
    """Says when it begins that it does not take its settings, as MLflow's says of ``file:``."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("file: is not\nsupported any more")
