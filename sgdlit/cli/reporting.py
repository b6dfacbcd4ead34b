"""What a command leaves and says about a run: its folder, its opening and closing lines, its predictions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from sgdlit.algorithms.parameter_groups import shortened
from sgdlit.config.keys import settings_of_run
from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import write_atomically, write_table
from sgdlit.runs import folder as run_folder
from sgdlit.runs.charts import Charts
from sgdlit.runs.metrics_file import MetricsFile
from sgdlit.training.divergence import DivergenceGuard
from sgdlit.training.module import Training, networks_of

_SIGNAL_EXIT = 128


@dataclass(frozen=True)
class Left:
    """What the loggers of a run had written when its checkpoint was made.

    Attributes:
        step: updates made.
        rows: of the table.
        charts: the state of :class:`Charts`; nothing where another logger wrote.
    """

    step: int
    rows: int
    charts: Mapping[str, Any]

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> "Left":
        """That of a checkpoint; one that was made elsewhere tells nothing but the step."""
        rows, charts = checkpoint.get("sgdlit_rows", 0), checkpoint.get("sgdlit_charts", {})
        return cls(int(checkpoint["global_step"]), int(rows), charts)


def open_folder(config: Namespace, resumed: Path | None) -> Path:
    """The folder of the run: that which is resumed, or a new one."""
    return resumed or run_folder.make_next(Path(config.logs), config.name)


def begin_loggers(given: Any, config: Namespace) -> list[Logger]:
    """The loggers that a config names, told the settings of the run, before it leaves a trace.

    Args:
        given: ``trainer.logger`` of the config.
        config: of the run, which loggers keep beside its numbers.

    Raises:
        UserError: one of them refuses its own settings, or cannot begin.
    """
    chosen: list[Any] = given if isinstance(given, list) else [given]
    named = [logger for logger in chosen if isinstance(logger, Logger)]
    for logger in named:
        try:
            logger.log_hyperparams(settings_of_run(config.as_dict()))
        except Exception as error:  # of whatever package it is
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            said = " ".join(str(cause).split())
            raise UserError(
                f"trainer.logger: {type(logger).__name__} cannot begin ({type(cause).__name__}: {said}); "
                "allowed: other settings of it (trainer.logger.KEY), another logger, or false"
            ) from error
    return named


def loggers(
    folder: Path, given: Any, named: list[Logger], left: "Left | None", config: Namespace
) -> list[Logger]:
    """What writes the numbers of a run: TensorBoard, or what the config names, and ``metrics.csv``.

    Args:
        folder: of the run.
        given: ``trainer.logger`` of the config.
        named: what it names, see :func:`begin_loggers`.
        left: what a run that goes on in its folder had written when its checkpoint was made.
        config: of the run, which TensorBoard keeps beside its numbers.
    """
    table = MetricsFile(folder, 0 if left is None else left.rows)
    if given is None or given is True:
        charts = Charts(folder, settings_of_run(config.as_dict()), None if left is None else left.step + 1)
        if left is not None:
            charts.restore(left.charts)
        return [charts, table]
    return [*named, table]


def begin(folder: Path, config: str, step: int, model: LightningModule, trainer: Trainer) -> None:
    """Write config and status, and say what begins."""
    run_folder.write_config(folder, config, step)
    run_folder.write_status(folder, "running", step)
    networks = networks_of(model)
    size = f"{sum(p.numel() for p in networks[0].parameters()):,}".replace(",", " ")
    what = f"{type(networks[0]).__name__}, {size} parameters{_frozen(networks[0])}"
    what = f"ensemble of {len(networks)}: {what} each" if len(networks) > 1 else what
    say(f"{what}, on {trainer.strategy.root_device}; writing to {folder}")


def _frozen(network: nn.Module) -> str:
    """Which parameters take no gradient, in words; empty where all do."""
    frozen = {name: p.numel() for name, p in network.named_parameters() if not p.requires_grad}
    size = f"{sum(frozen.values()):,}".replace(",", " ")
    return f" ({size} of them frozen: {shortened(list(frozen))})" if frozen else ""


def end(
    folder: Path,
    model: LightningModule,
    trainer: Trainer,
    guard: DivergenceGuard,
    stopped_by: int,
    config: Namespace,
) -> int:
    """Write how a run ended, draw its picture, and say so; the exit code.

    Args:
        folder: of the run.
        model: what was trained.
        trainer: of the run.
        guard: which knows of divergence.
        stopped_by: the signal that stopped it, or 0.
        config: of the run, which names its picture, and has the words that close a run that has finished.
    """
    state, step = ("stopped" if stopped_by else "finished"), trainer.global_step
    if guard.step is not None:
        state, step = "diverged", guard.step
    numbers = _write_end(folder, model, guard, state, step)
    evaluated_as = model.reached() if isinstance(model, Training) else [trainer.callback_metrics]
    for logger in trainer.loggers:
        if isinstance(logger, Charts):
            logger.end({name: float(value) for row in evaluated_as for name, value in row.items()})
    if numbers and trainer.limit_val_batches not in (0, 1.0):
        numbers += f" (of {trainer.limit_val_batches} batches per evaluation set)"
    resume = f"; go on with: python -m sgdlit fit --resume {folder}" if state == "stopped" else ""
    reached = numbers or "no evaluation yet"
    say(f"{state} at step {step}{_by_clock(trainer, state)}: {reached}; {folder}{resume}")
    if config.figure is not None:
        draw(config.figure, folder)
    if config.closing is not None and state == "finished":
        say(config.closing.rstrip())
    return _SIGNAL_EXIT + stopped_by if state == "stopped" else 0


def _by_clock(trainer: Trainer, state: str) -> str:
    """Whether time, not steps, ended a run."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]
    up = state == "finished" and any((timer.time_remaining() or 1) <= 0 for timer in timers)
    return " (trainer.max_time was up)" if up else ""


def _write_end(folder: Path, model: LightningModule, guard: DivergenceGuard, state: str, step: int) -> str:
    """Status and tables; what was reached, in words."""
    if not isinstance(model, Training):
        run_folder.write_status(folder, state, step)
        return ""
    reached = model.reached()
    if not model.several:
        run_folder.write_status(folder, state, step, **reached[0])
        return ", ".join(f"{name} {value:.4g}" for name, value in reached[0].items())
    from sgdlit.runs.outcomes import outcomes, summary, write_members

    points = [member.point for member in model.members]
    ended = outcomes(points, guard.steps, state, step, reached)
    write_members(folder, state, step, ended)
    return summary(ended)


def draw(name: str, folder: Path) -> None:
    """Draw a picture of a run beside it: ``draw`` of the file ``name`` of ``sgdlit.figures``."""
    from sgdlit.figures.of_a_run import draw_run
    from sgdlit.runs.reading import load_run

    for path in draw_run(load_run(folder), name, folder):
        say(f"drawn: {path}")


def evaluated(
    command: str, source: str, folder: Path | None, model: LightningModule, trainer: Trainer
) -> None:
    """Say what an evaluation found, and write it beside the run."""
    numbers = {name: float(value) for name, value in trainer.callback_metrics.items()}
    where = ""
    if folder is not None:
        facts: dict[str, Any] = {"checkpoint": source, **numbers}
        if isinstance(model, Training) and model.several:
            facts["members"] = model.evaluated()
        path = run_folder.evaluation_path(folder, command)
        write_atomically(path, json.dumps(facts, indent=1) + "\n")
        where = f"; written to {path}"
    found = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
    say(f"{source}: {found}{_not_finite(model)}{where}")


def _not_finite(model: LightningModule) -> str:
    """How many of several runs the mean leaves out."""
    if not isinstance(model, Training) or not model.several:
        return ""
    bad = model.evaluations_are_finite().count(False)
    return f" (without {bad} of {len(model.members)} members, whose loss is not finite)" if bad else ""


def check_prediction(model: LightningModule, trainer: Trainer) -> None:
    """Refuse predictions that nobody could read.

    Raises:
        UserError: several processes or runs, or a loss without classes.
    """
    if trainer.world_size > 1:
        raise UserError(
            f"trainer.devices: predict writes one file, from one process, not {trainer.world_size}"
        )
    if not isinstance(model, Training):
        return
    if model.several:
        raise UserError(
            "predict: the run is an ensemble; export a member (python -m sgdlit export --run DIR "
            "--member K) and predict with that run"
        )
    model.members[0].loss.classify(torch.zeros(1, 2))  # a loss without classes refuses before any work


def predicted(found: Tensor, folder: Path) -> None:
    """Write ``predictions.csv``: label, predicted class and its probability, ``[N, 3]``."""
    path = folder / "predictions.csv"
    rows = [
        {"index": i, "label": int(label), "predicted": int(guess), "probability": f"{p:.6f}"}
        for i, (label, guess, p) in enumerate(found.tolist())
    ]
    write_table(path, rows)
    say(f"{len(rows)} predictions written to {path}")
