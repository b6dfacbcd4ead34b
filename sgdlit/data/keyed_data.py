"""What shards and streams have in common: batches that are made on the device, without a state."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from sgdlit.data.loaders import (
    Batch,
    Batches,
    BlockLoader,
    EvaluationLoader,
    StepLoader,
    check_same_data,
)


class OnDeviceData(LightningDataModule):
    """Data whose batches, or blocks of batches, are made where they are needed."""

    block_length: Callable[[int], int] | None = None
    """step -> steps that the module takes per call from there; None where a call takes one batch."""

    @property
    @abstractmethod
    def evaluation_splits(self) -> list[str]:
        """Names of the evaluation sets (val, test, train_set), in the order of ``val_dataloader()``."""

    @abstractmethod
    def evaluation_loader(self, split: str) -> Iterable[Any]:
        """Every example of an evaluation set once."""

    def val_dataloader(self) -> list[Iterable[Any]]:
        return [self.evaluation_loader(split) for split in self.evaluation_splits]

    def test_dataloader(self) -> Iterable[Any]:
        return self.evaluation_loader("test")

    def predict_dataloader(self) -> Iterable[Any]:
        return self.evaluation_loader("test")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches are made where they are needed."""
        return batch


class KeyedData(OnDeviceData):
    """Data of which every batch is a function of (seed, step)."""

    def setup(self, stage: str | None = None) -> None:
        """Read what has to be read, once."""

    @property
    @abstractmethod
    def source(self) -> dict[str, Any]:
        """What decides the distribution and the evaluation sets, whatever is visited and in which order."""

    @property
    def is_finite(self) -> bool:
        """Whether there is a training set, all of which can be seen."""
        return True

    @abstractmethod
    def take_over(self, other: "KeyedData") -> None:
        """Use the examples that ``other`` holds, which has the same class and ``source``."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Length of the training loader."""

    @property
    @abstractmethod
    def step_sizes(self) -> list[int]:
        """How many examples a step can see, over all ranks: B, and those of a short last minibatch."""

    @abstractmethod
    def batches(self, device: torch.device) -> Batches:
        """What each step sees, made on the device."""

    @abstractmethod
    def example(self) -> Batch:
        """One training example on the host, with the highest label: input ``[1, ...]`` and target."""

    @abstractmethod
    def evaluation_loader(self, split: str, batch_size: int | None = None) -> EvaluationLoader:
        """Every example of an evaluation set, or of the training set (``train_set``), once over all ranks.

        Args:
            split: which set.
            batch_size: examples per rank in one batch; None for the data's own.
        """

    def train_dataloader(self) -> StepLoader | BlockLoader:
        batches = self.batches(self.trainer.strategy.root_device)
        if self.block_length is None:
            return StepLoader(batches, self.trainer)
        return BlockLoader([batches], self.trainer, self.block_length)

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What decides the data of a run, in plain types: a checkpoint is resumed on the same only."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_same_data(self.state_dict(), state_dict)
