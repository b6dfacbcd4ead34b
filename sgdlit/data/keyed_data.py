"""What shards and streams have in common: batches that are made on the device, without a state."""

from abc import abstractmethod
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from sgdlit.data.loaders import Batch, EvaluationLoader, check_same_data


class KeyedData(LightningDataModule):
    """Data of which every batch is a function of (seed, step)."""

    @property
    @abstractmethod
    def evaluation_splits(self) -> list[str]:
        """Names of the evaluation sets ("val", "test"), in the order of ``val_dataloader()``."""

    @abstractmethod
    def evaluation_loader(self, split: str) -> EvaluationLoader:
        """Every example of an evaluation set once."""

    def val_dataloader(self) -> list[EvaluationLoader]:
        return [self.evaluation_loader(split) for split in self.evaluation_splits]

    def test_dataloader(self) -> EvaluationLoader:
        return self.evaluation_loader("test")

    def predict_dataloader(self) -> EvaluationLoader:
        return self.evaluation_loader("test")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Batches are made where they are needed."""
        return batch

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What decides the data of a run, in plain types: a checkpoint is resumed on the same only."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_same_data(self.state_dict(), state_dict)
