"""The base of the finite sets of images, built in or read from files: ``sgdlit.data.finite`` holds the sets.

The whole set lies on the training device as bytes; batches are gathered by index, augmented and standardised
there. No worker processes, nothing to shuffle, no state: see ``orders`` and ``batches``.
"""

import zlib
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from sgdlit.data.augmentation import CropAndFlip
from sgdlit.data.batches import Batch
from sgdlit.data.class_selection import ClassSelection
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.loaders import CHECKSUMS
from sgdlit.data.official_files import OfficialFiles
from sgdlit.data.shards import Shard, Storage, Subset, shard_from_arrays, split, whole
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
        classes: the labels whose examples are kept, in all sets; they become 0, 1, … in this order. None
            keeps all.
        class_weights: parts of the training examples of each class (by its new number) that are kept, the
            largest 1: an imbalanced training set, beside validation and test sets as they are.
        storage: "device" copies the training set to the training device; "host" leaves it where it is, which
            for a memory-mapped file means that only the examples of each batch are read.
        keyed: see :class:`KeyedData`.

    Raises:
        UserError: nothing is evaluated; classes or weights that are not possible.
    """

    num_classes: int | None = None
    """How many classes there are, once the set is read; None where targets are real numbers."""

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
        classes: list[int] | None = None,
        class_weights: list[float] | None = None,
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
        self.selection = ClassSelection(classes, class_weights)
        if balanced and class_weights is not None:
            raise UserError("data.class_weights: not possible with data.balanced: true; allowed: one of them")
        self.augmentation_seed = self.seed if augmentation_seed is None else augmentation_seed
        self.split_seed = split_seed
        self.device = torch.device("cpu")  # where data that is made, not read, is made
        self.subsets: dict[str, Subset] = {}

    @abstractmethod
    def read_splits(self) -> dict[str, Subset]:
        """The examples of "train", "val" and "test" (the second may be empty)."""

    @property
    @abstractmethod
    def standardise(self) -> Callable[[Tensor], Tensor]:
        """From pixels to the network's input."""

    @property
    def steps_per_epoch(self) -> int:
        return self.visits.steps_per_epoch

    def setup(self, stage: str | None = None) -> None:
        if self.itinerary is not None:
            return
        subsets = self.subsets or self._disturbed(self.read_splits())
        if self.selection.description and self.num_classes is None:
            key = next(iter(self.selection.description))
            raise UserError(f"data.{key}: {type(self).__name__} selects no classes; allowed: null")
        self.itinerary = self.make_itinerary(len(subsets["train"]))
        self.subsets = subsets

    def check(self, trainer: Trainer) -> None:
        self.device = trainer.strategy.root_device
        super().check(trainer)

    @property
    def source(self) -> dict[str, Any]:
        sizes = [self.train_size, self.val_size]
        own = {"sizes": sizes, "balanced": self.balanced, "split_seed": self.split_seed}
        disturbances = self.disturbances
        seeded = {"seed": self.seed} if disturbances else {}
        return own | self.selection.description | disturbances | seeded

    def _disturbed(self, subsets: dict[str, Subset]) -> dict[str, Subset]:
        """The examples with the corrupted inputs and the wrong labels that there are to be."""
        return {name: self._disturbed_subset(name, subset) for name, subset in subsets.items()}

    def _disturbed_subset(self, split: str, subset: Subset) -> Subset:
        concerned = (d.concerns(split) for d in (self.label_errors, self.corruption) if d is not None)
        if not any(concerned):
            return subset
        indices = subset.indices
        if self.corruption is None:  # inputs may be a file: they stay where they are
            targets = subset.shard.targets.clone()
            none = targets.new_zeros(len(indices))
            _, targets[indices] = self.disturbed(split, indices, none, subset.targets, self.seed)
            return Subset(Shard(subset.shard.inputs, targets), indices)
        everything = torch.arange(len(subset), device=subset.device)
        return whole(Shard(*self.disturbed(split, indices, *subset.take(everything), self.seed)))

    def check_classes(self, count: int) -> None:
        """Refuse what does not go with the number of classes that the set has.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """
        self.selection.check(count)
        left = count if self.selection.classes is None else len(self.selection.classes)
        if self.label_errors is not None and self.label_errors.classes > left:
            raise UserError(
                f"data.label_errors.classes: {self.label_errors.classes} is more than the {left} classes of "
                f"the data; allowed: {left}"
            )
        self.num_classes = left

    def take_over(self, other: KeyedData) -> None:
        assert isinstance(other, ImageShards), "of the same class"
        self.subsets, self.num_classes = other.subsets, other.num_classes

    def split_pool(self, pool: Shard, test: Shard) -> dict[str, Subset]:
        """Training and validation examples from one pool, test examples from their own file."""
        if self.num_classes is None and not pool.targets.is_floating_point() and pool.targets.dim() == 1:
            self.check_classes(int(max(pool.targets.max(), test.targets.max())) + 1)
        selection = self.selection if self.selection.description else None
        sizes = self.val_size, self.train_size, self.split_seed, self.balanced
        if selection is None:
            train, val = split(pool.targets, *sizes)
            return {"train": Subset(pool, train), "val": Subset(pool, val), "test": whole(test)}
        pool, test = (Shard(s.inputs, selection.relabelled(s.targets)) for s in (pool, test))
        train, val = split(pool.targets, *sizes, selection)
        kept = (test.targets >= 0).nonzero().squeeze(-1)
        return {"train": Subset(pool, train), "val": Subset(pool, val), "test": Subset(test, kept)}

    def example(self) -> Batch:
        train = self.subsets["train"]
        targets = train.targets
        index = targets.argmax().view(1) // targets[0].numel()
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
            **self.selection.description,
            "seeds": [self.order_seed, self.augmentation_seed, self.split_seed],
        }


class ImagesFromFiles(ImageShards):
    """A finite set of images that is read from its official files.

    A checkpoint keeps the checksum of what was read, so that a run does not go on with other bytes; with
    ``storage: host``, of which files may be larger than the memory, that of the labels alone.

    Args:
        root: folder that holds the files, or one of the folders in which they are published.
        shard: see :class:`ImageShards`.
    """

    files: ClassVar[OfficialFiles]

    def __init__(self, root: str = "data", **shard: Any) -> None:
        super().__init__(**shard)
        self.root = root
        self._sums: list[int] = []

    @property
    def source(self) -> dict[str, Any]:
        return super().source | {"root": self.root}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {CHECKSUMS: self._sums}

    def take_over(self, other: KeyedData) -> None:
        super().take_over(other)
        assert isinstance(other, ImagesFromFiles), "of the same class"
        self._sums = other._sums

    def require_files(self) -> None:
        self.files.require(self.root)

    def read_splits(self) -> dict[str, Subset]:
        self.require_files()
        self.check_classes(self.files.format.classes)
        read = [self.files.read(Path(self.root), train) for train in (True, False)]
        held = [part for own in read for part in (own if self.storage == "device" else own[1:])]
        self._sums = [zlib.crc32(np.ascontiguousarray(part).data) for part in held]
        train, test = (self.shard(*own) for own in read)
        return self.split_pool(train, test)

    def shard(self, images: np.ndarray, labels: np.ndarray) -> Shard:
        """The examples of one split from what was read."""
        return shard_from_arrays(images, labels)
