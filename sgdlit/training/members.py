"""A run, or the members of an ensemble, as those see it who report about them: one list, whichever it is."""

from collections.abc import Mapping, Sequence

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import nn

from sgdlit.training.rows import Row


def members_of(module: LightningModule) -> Sequence[nn.Module]:
    """The runs that a module trains: its members, or itself."""
    return getattr(module, "members", [module])


def data_of(trainer: Trainer) -> Sequence[LightningDataModule | None]:
    """What each of the runs sees."""
    return getattr(trainer.datamodule, "members", [trainer.datamodule])


def reported(module: LightningModule) -> list[int]:
    """The numbers of the runs that this process reports about: on the first rank a single run, or the members
    of an ensemble that are trained on this rank and have not diverged."""
    if hasattr(module, "living"):
        return module.living()
    return [0] if module.trainer.is_global_zero else []


def log_reports(module: LightningModule, rows: Mapping[int, Row]) -> None:
    """Write rows about the runs, by number, to every logger at the number of updates made."""
    if hasattr(module, "log_rows"):
        module.log_rows(rows)
        return
    for row in rows.values():
        for logger in module.trainer.loggers:
            logger.log_metrics(row, step=module.global_step)
