"""Arrays that measures take during a run: files in its folder, and histograms where a logger draws them."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

import sgdlit
from sgdlit.measures.array_files import drop_after, write_about, write_array
from sgdlit.runs.metrics_file import MetricsFile
from sgdlit.training.module import Training
from sgdlit.training.own_module import OwnModule
from sgdlit.training.rows import over_ranks

NamedArrays = dict[str, np.ndarray]


class ArraysOfRun:
    """Keeps arrays in the folder of a run; of a run without a folder it keeps none.

    Args:
        about: what the arrays of each name are.
    """

    def __init__(self, about: dict[str, dict[str, Any]]) -> None:
        self.about = about
        self._told: set[str] = set()

    def begin(self, trainer: Trainer) -> None:
        """Training begins, or goes on: what was measured after this step is measured again."""
        folder = _folder(trainer)
        if folder is not None:
            drop_after(folder, trainer.global_step)

    def keep(self, trainer: Trainer, module: Training | OwnModule, found: dict[int, NamedArrays]) -> None:
        """Write the arrays of some members of this process; all processes call it at the same steps."""
        everyone = over_ranks(found, trainer) if module.several else found
        folder = _folder(trainer)
        for k, arrays in everyone.items():
            for name, array in arrays.items():
                if folder is not None:
                    self._tell(folder, name, array)
                    write_array(folder, name, trainer.global_step, k if module.several else None, array)
                if array.ndim == 1 and (module.curves or not module.several):
                    _draw(trainer, f"measure/{name}" + (f"/member_{k}" if module.several else ""), array)

    def _tell(self, folder: Path, name: str, array: np.ndarray) -> None:
        if name not in self._told:
            own = {"dtype": str(array.dtype), "version": sgdlit.__version__}
            write_about(folder, name, self.about[name] | own)
            self._told.add(name)


def _folder(trainer: Trainer) -> Path | None:
    """The folder of the run, on the process that writes it."""
    tables = [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]
    return tables[0].path.parent if tables and trainer.is_global_zero else None


def _draw(trainer: Trainer, name: str, array: np.ndarray) -> None:
    """A histogram of the numbers that are finite, where there are any."""
    finite = array[np.isfinite(array)]
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and len(finite):
            logger.experiment.add_histogram(name, finite, trainer.global_step)
