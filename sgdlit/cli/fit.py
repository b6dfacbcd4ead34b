"""``fit``, ``validate``, ``test`` and ``predict``: one run, trained or evaluated."""

import logging
import warnings
from pathlib import Path

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from sgdlit.cli.run_cli import RunCLI
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.memory import keep_freed_memory
from sgdlit.foundations.threads import share_cores
from sgdlit.training.ranks import LOST, lost_a_rank

_BY_THE_FIRST_RANK = "pytorch.utilities.rank_zero"  # the logger of what one rank says for all
_MONITOR = "Early stopping conditioned on metric"  # which no evaluation has: so Lightning's message begins


def main(command: str, arguments: list[str]) -> int:
    """Run fit, validate, test or predict; the exit code. It raises what :func:`train` does."""
    return train(command, arguments).exit_code


def train(command: str, arguments: list[str]) -> RunCLI:
    """Run fit, validate, test or predict; what ran it, which knows the folder of the run.

    Raises:
        UserError: anything in config, command line, data or checkpoint that the user can mend.
    """
    settle_process()
    try:
        return RunCLI(command, arguments)
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
    except RuntimeError as error:
        if lost_a_rank(error):
            raise UserError(
                f"trainer.devices: {LOST}; go on with: python -m sgdlit fit --resume DIR"
            ) from error
        if not str(error).startswith(_MONITOR):
            raise
        raise UserError(f"trainer.callbacks, monitor: {error}") from error


def settle_process() -> None:
    """The settings of a process that trains or measures a run; they decide bits."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    keep_freed_memory()
    share_cores(1)
    torch.backends.cudnn.deterministic = True  # a resumed run is to end bitwise where it would have ended
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32; trainer.precision offers bf16-mixed
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("pytorch.profilers", "pytorch.callbacks", _BY_THE_FIRST_RANK):
        logging.getLogger(f"lightning.{name}").setLevel(logging.INFO)
    logging.getLogger(f"lightning.{_BY_THE_FIRST_RANK}").addFilter(_asked_for)


def _asked_for(record: logging.LogRecord) -> bool:
    """Whether a callback of the config says something, and not Lightning by itself."""
    return record.levelno >= logging.WARNING or "callbacks" in Path(record.pathname).parts
