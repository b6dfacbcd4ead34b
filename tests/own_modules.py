"""LightningModules as a user writes them, with everything that a look at them could disturb."""

from typing import Any

import torch
import torch.nn.functional as F
import torchmetrics
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Counting(LightningModule):
    """Dropout, running statistics, a metric, a counter, a list, and logging; its loss is a mean.

    Args:
        inputs: of the network.
        classes: outputs.
    """

    def __init__(self, inputs: int = 6, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, 7)
        self.norm = nn.BatchNorm1d(7)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(7, classes)
        self.accuracy = torchmetrics.MeanMetric()
        self.calls = 0
        self.seen: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(torch.tanh(self.norm(self.first(x.flatten(1))))))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        outputs = self(x)
        loss = F.cross_entropy(outputs, y)
        self.calls += 1
        self.seen.append(float(loss.detach()))
        self.accuracy(float((outputs.argmax(1) == y).float().mean()))
        self.log("train/loss", loss)
        self.log("train/accuracy", self.accuracy.compute())  # over all steps so far
        if self.logger is not None:
            self.logger.log_metrics({"own": float(loss.detach())}, step=self.global_step)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val/loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Knowing(Counting):
    """The same, and it knows the loss of each example."""

    def example_losses(self, batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y, reduction="none")


class ByName(Knowing):
    """Its batches are dictionaries."""

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(self(batch["x"]), batch["y"])}

    def example_losses(self, batch: Any) -> Tensor:
        return super().example_losses((batch["x"], batch["y"]))


class Manual(Counting):
    """It optimizes by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


class KnowingManual(Manual, Knowing):
    """It optimizes by itself, and knows the loss of each example."""


def examples(count: int = 50) -> TensorDataset:
    """Inputs ``[count, 6]`` and classes."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(count, 6, generator=generator)
    return TensorDataset(x, torch.randint(3, (count,), generator=generator))


class Named(torch.utils.data.Dataset):
    """The same as dictionaries."""

    def __init__(self) -> None:
        self.pairs = examples()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        x, y = self.pairs[i]
        return {"x": x, "y": y}


def loader(dataset: torch.utils.data.Dataset | None = None, **given: Any) -> DataLoader:
    """Minibatches of 8 in an order that torch's global generator decides."""
    return DataLoader(dataset or examples(), **{"batch_size": 8, "shuffle": True, **given})
