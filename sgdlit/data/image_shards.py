"""The base of the finite sets of images, built in or read from files: ``sgdlit.data.finite`` holds the sets.

The whole set lies on the training device as bytes; batches are gathered by index, augmented and standardised
there. No worker processes, nothing to shuffle, no state: see ``orders`` and ``batches``.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from sgdlit.data.augmentation import CropAndFlip
from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.official_files import OfficialFiles
from sgdlit.data.shards import (
    PerChannel,
    PerImage,
    Shard,
    Storage,
    Subset,
    first_of_classes,
    shard_from_arrays,
    split,
    whole,
)
from sgdlit.foundations.errors import UserError

_PIXELS = 2**20  # made in one call for several steps: temporaries that fit the cache


class ImageShards(KeyedData):
    """A finite set of labelled images, cut into training, validation and test examples.

    Args:
        batch_size: B, examples per step over all ranks and accumulated micro-batches.
        train_size: number of training examples; None takes all that the validation set leaves.
        balanced: equal numbers of each class in the training and validation sets.
        augment: random crops (zero-padding 4) and horizontal flips.
        augmentation_seed: a seed for the augmentation alone.
        split_seed: decides which examples are for training and which for validation.
        eval_batch_size: examples per rank in one evaluation batch.
        evaluate_test: whether the test set is evaluated during training, beside the validation set.
        storage: "device" copies the training set to the training device; "host" leaves it where it is, which
            for a memory-mapped file means that only the examples of each batch are read.
        keyed: see :class:`KeyedData`.

    Raises:
        UserError: nothing is evaluated.
    """

    num_classes: ClassVar[int] = 10

    def __init__(
        self,
        batch_size: int = 32,
        train_size: int | None = None,
        balanced: bool = False,
        augment: bool = True,
        augmentation_seed: int | None = None,
        split_seed: int = 0,
        eval_batch_size: int = 500,
        evaluate_test: bool = True,
        storage: Storage = "device",
        **keyed: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, **keyed)
        self.train_size, self.balanced, self.augment, self.storage = train_size, balanced, augment, storage
        self.evaluate_test = evaluate_test
        if not self.evaluation_splits:
            raise UserError(
                "data.evaluate_test: false with data.val_size: 0 leaves nothing to be evaluated; allowed: "
                "true, or a val_size"
            )
        self.augmentation_seed = self.seed if augmentation_seed is None else augmentation_seed
        self.split_seed = split_seed
        self.device = torch.device("cpu")  # where data that is made, not read, is made
        self.subsets: dict[str, Subset] = {}

    @abstractmethod
    def read_splits(self) -> dict[str, Subset]:
        """The examples of "train", "val" and "test" (the second may be empty)."""

    @property
    @abstractmethod
    def standardise(self) -> PerChannel | PerImage:
        """From pixels to the network's input."""

    @property
    def steps_per_epoch(self) -> int:
        return self.visits.steps_per_epoch

    def setup(self, stage: str | None = None) -> None:
        if self.itinerary is not None:
            return
        subsets = self.subsets or self._with_errors(self.read_splits())
        self.itinerary = self.make_itinerary(len(subsets["train"]))
        self.subsets = subsets

    def check(self, trainer: Trainer) -> None:
        self.device = trainer.strategy.root_device
        super().check(trainer)

    @property
    def source(self) -> dict[str, Any]:
        sizes = [self.train_size, self.val_size]
        errors = None if self.label_errors is None else [self.label_errors.description, self.seed]
        own = {"sizes": sizes, "balanced": self.balanced, "split_seed": self.split_seed}
        return own if errors is None else own | {"label_errors": errors}

    def _with_errors(self, subsets: dict[str, Subset]) -> dict[str, Subset]:
        """The training examples with wrong labels, where there are to be any."""
        if self.label_errors is None:
            return subsets
        pool, indices = subsets["train"].shard, subsets["train"].indices
        wrong = self.label_errors.apply(torch.arange(len(pool), device=pool.device), pool.targets, self.seed)
        return subsets | {"train": Subset(Shard(pool.inputs, wrong), indices)}

    def take_over(self, other: KeyedData) -> None:
        self.subsets = other.subsets

    def split_pool(self, pool: Shard, test: Shard) -> dict[str, Subset]:
        """Training and validation examples from one pool, test examples from their own file."""
        train, val = split(pool.targets, self.val_size, self.train_size, self.split_seed, self.balanced)
        return {"train": Subset(pool, train), "val": Subset(pool, val), "test": whole(test)}

    def example(self) -> Batch:
        train = self.subsets["train"]
        index = train.shard.targets[train.indices].argmax().view(1)
        images, labels = train.take(index)
        return self.standardise(images.cpu()), labels.cpu()

    def _subset(self, split: str) -> Subset:
        return self.subsets["train" if split == "train_set" else split]

    def size(self, split: str) -> int:
        return len(self._subset(split))

    def examples(self, split: str, device: torch.device) -> Shard | Subset:
        return self._subset(split).stored(self.storage, device)

    def prepare(self, inputs: Tensor) -> Tensor:
        return self.standardise(inputs)

    def augmentation(self) -> CropAndFlip | None:
        return CropAndFlip(4, True, self.augmentation_seed, self.batch_size) if self.augment else None

    def at_a_time(self, device: torch.device) -> int:
        return max(1, _PIXELS // self.subsets["train"].shape.numel())

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "examples": len(self.subsets["train"]),
            "held out": [len(self.subsets[name]) for name in ("val", "test")],
            "balanced": self.balanced,
            "augment": self.augment,
            "seeds": [self.order_seed, self.augmentation_seed, self.split_seed],
        }


class ImagesFromFiles(ImageShards):
    """A finite set of images that is read from its official files.

    Args:
        root: folder that holds the files, or one of the folders in which they are published.
        class_counts: of each class, how many training examples are kept, for a training set in which some
            classes are rarer than others; None keeps all. Validation and test sets stay as they are.
        shard: see :class:`ImageShards`.
    """

    files: ClassVar[OfficialFiles]

    def __init__(self, root: str = "data", class_counts: list[int] | None = None, **shard: Any) -> None:
        super().__init__(**shard)
        self.root, self.class_counts = root, class_counts

    @property
    def source(self) -> dict[str, Any]:
        own = {"root": self.root}
        return (
            super().source | own | ({} if self.class_counts is None else {"class_counts": self.class_counts})
        )

    def read_splits(self) -> dict[str, Subset]:
        train, test = (self.shard(*self.files.read(Path(self.root), train)) for train in (True, False))
        subsets = self.split_pool(train, test)
        if self.class_counts is not None:
            indices = subsets["train"].indices
            kept = first_of_classes(indices, train.targets[indices], self.class_counts)
            subsets["train"] = Subset(train, kept)
        return subsets

    def shard(self, images: np.ndarray, labels: np.ndarray) -> Shard:
        """The examples of one split from what was read."""
        return shard_from_arrays(images, labels)
