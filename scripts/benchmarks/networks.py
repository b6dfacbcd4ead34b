"""The networks and batches of the paper, and a step of each in plain PyTorch."""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import DEVICE, StandIn
from sgdlit.data.image_shards import ImageShards
from sgdlit.data.shards import PerChannel, PerImage, Shard, Subset, whole
from sgdlit.models import MLP, WideResNet
from sgdlit.objectives import Objective, loss_by_name

STRENGTH, LR, LOG_EVERY = 2.0**-6, 2.0**-8, 50
LOSS = loss_by_name("cross_entropy")


class Case(NamedTuple):
    """A network and its batches, as in the configs of the paper."""

    name: str
    make: Callable[[], nn.Module]
    image: tuple[int, int, int]
    batch_size: int
    channels_last: bool
    fit_steps: int


CASES = (
    Case("WRN-10-1, B=32", lambda: WideResNet(10, 1), (3, 32, 32), 32, True, 260),
    Case("MLP 784-4096x3-10, B=16", lambda: MLP([784, 4096, 4096, 4096, 10]), (1, 28, 28), 16, False, 60),
)


class RandomImages(ImageShards):
    """Bytes without meaning, so that nothing is drawn or read."""

    def __init__(self, image: tuple[int, int, int], batch_size: int) -> None:
        super().__init__(batch_size=batch_size, augment=image[0] == 3)
        self.image = image

    def read_splits(self) -> dict[str, Subset]:
        sizes = {"train": 4800, "val": 0, "test": 48}
        return {name: whole(self._shard(size)) for name, size in sizes.items()}

    def _shard(self, size: int) -> Shard:
        images = torch.randint(0, 256, (size, *self.image), dtype=torch.uint8)
        return Shard(images, torch.randint(0, 10, (size,)))

    @cached_property
    def standardise(self) -> PerChannel | PerImage:
        return PerChannel((0.5,) * 3, (0.25,) * 3) if self.image[0] == 3 else PerImage()


def batches(case: Case) -> Callable[[int], tuple[Tensor, Tensor]]:
    """step -> the batch that fit would see at it."""
    data = RandomImages(case.image, case.batch_size)
    data.setup()
    data.trainer = StandIn()
    loader = data.train_dataloader()

    def batch(step: int) -> tuple[Tensor, Tensor]:
        images, labels = loader.batches.batch(step, slice(0, case.batch_size))
        return (
            images.contiguous(memory_format=torch.channels_last) if case.channels_last else images
        ), labels

    return batch


def build(case: Case) -> tuple[nn.Module, torch.optim.Optimizer]:
    network = case.make().to(DEVICE)
    if case.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return network, torch.optim.SGD(network.parameters(), lr=LR)


def plain_step(network: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> Tensor:
    optimizer.zero_grad()
    loss = F.cross_entropy(network(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss


def objective_step(
    objective: Objective, network: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]
) -> Tensor:
    optimizer.zero_grad()
    loss = objective(network, LOSS, *batch, STRENGTH).loss
    loss.backward()
    optimizer.step()
    return loss
