"""Numbers that go through Lightning's ``log`` are stored once, at the step at which they were measured.

Lightning (2.6) writes what ``log`` was told when a row is due, every ``log_every_n_steps``. What is measured
in between it writes at the next row as if it had been measured there, and again at every row until a newer
one comes; where a newer one comes before the row it writes the older not at all. What is logged after a
step, or by an evaluation, it writes at the step before.

Here a number that is logged in training is written at once, at ``trainer.global_step``: the updates that the
parameters have had. One that comes at every step is thinned, after its first value, to the multiples of
``log_every_n_steps``. This file looks inside Lightning's logging; a test pins what is used of it.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.connectors.logger_connector.fx_validator import _FxValidator
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from sgdlit.runs.metrics_file import MetricsFile

_LOG = inspect.signature(LightningModule.log)


class LoggedOnce:
    """Takes the place of a module's ``log``, before ``trainer.fit`` gives it to callbacks.

    Args:
        trainer: of the run.
        module: whose numbers, and whose callbacks' numbers, are stored.
    """

    def __init__(self, trainer: Trainer, module: LightningModule) -> None:
        self._trainer, self._module = trainer, module
        self._latest: dict[str, int] = {}  # step of the latest value, by name
        self._log: Callable[..., None] = module.log
        module.__dict__["log"] = self._store
        connector = trainer._logger_connector
        connector.__dict__["log_metrics"] = _at_the_step_of_evaluations(trainer, connector.log_metrics)

    def __deepcopy__(self, memo: dict[int, Any]) -> "LoggedOnce":
        """A copy of a module logs where the module does."""
        return self

    def _store(self, *args: Any, **kwargs: Any) -> None:
        """What ``module.log`` does."""
        given = _LOG.bind(self._module, *args, **kwargs)
        given.apply_defaults()
        values = dict(given.arguments)
        del values["self"]
        if self._is_own(values):
            if self._is_due(values["name"]):
                self._write(values)
            values["logger"] = False  # progress bar and callbacks have it from Lightning
        self._log(**values)

    def _is_own(self, values: Mapping[str, Any]) -> bool:
        """Whether a number belongs to a step of training, or to the end of an epoch: others are averaged."""
        hook, value = self._module._current_fx_name, values["value"]
        if self._trainer.state.fn != TrainerFn.FITTING or self._trainer.sanity_checking or hook is None:
            return False
        number = isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)
        if not number or values["logger"] is False:
            return False
        on_step, on_epoch = _FxValidator.check_logging_and_get_default_levels(
            hook, values["on_step"], values["on_epoch"]
        )
        return on_step != on_epoch and (
            hook.endswith("epoch_end") if on_epoch else not hook.startswith(("validation", "on_validation"))
        )

    def _is_due(self, name: str) -> bool:
        """Whether a number is kept: not between rows, if it comes at every step."""
        step, latest, every = (
            self._trainer.global_step,
            self._latest.get(name),
            self._trainer.log_every_n_steps,
        )
        self._latest[name] = step
        each_step = latest is not None and step - latest <= 1
        return every > 0 and not (each_step and step % every)

    def _write(self, values: Mapping[str, Any]) -> None:
        value, step = values["value"], self._trainer.global_step
        if isinstance(value, Tensor):
            value = value.detach()
            if values["sync_dist"] and self._trainer.world_size > 1:
                given = values["reduce_fx"]
                by = given if isinstance(given, str) else given.__name__
                value = self._trainer.strategy.reduce(value.clone(), reduce_op=by)
        row = {values["name"]: float(value)}
        for logger in self._trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.add_metrics(row, step)
            else:
                logger.log_metrics(row, step=step)


def _at_the_step_of_evaluations(trainer: Trainer, log_metrics: Callable[..., None]) -> Callable[..., None]:
    """Lightning's writing of metrics, with the present step for what is averaged over an epoch or an
    evaluation; it would give them the step before."""

    def write(metrics: dict[str, Any], step: int | None = None) -> None:
        over_epoch = trainer._logger_connector._first_loop_iter is None
        if trainer.state.fn != TrainerFn.FITTING or step is not None or "step" in metrics or not over_epoch:
            log_metrics(metrics, step=step)
        elif metrics:
            log_metrics({"epoch": trainer.current_epoch, **metrics}, step=trainer.global_step)

    return write
