"""The LightningDataModules of finite image shards: CIFAR-10, Fashion-MNIST and the built-in shapes.

The whole shard lies on the training device as bytes; batches are gathered by index, augmented and
standardised there. No worker processes, nothing to shuffle, no state: see ``orders`` and ``loaders``.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sgdlit.data import shapes
from sgdlit.data.augmentation import CropAndFlip
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.loaders import Batch, Batches, EvaluationLoader, check_loaders
from sgdlit.data.orders import Itinerary, LastBatch, Order, RandomReshuffling
from sgdlit.data.readers import (
    CIFAR10_FOLDERS,
    CIFAR10_TEST,
    CIFAR10_TRAIN,
    DataMissing,
    locate,
    read_cifar10,
    read_fashion_mnist,
)
from sgdlit.data.shards import PerChannel, PerImage, Shard, Storage, Subset, shard_from_arrays, split, whole
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key
from sgdlit.foundations.progress import track

_STACKED = 2**20  # pixels made in one call for several steps: temporaries that fit the cache


class ImageShards(KeyedData):
    """A finite set of labelled images, cut into training, validation and test examples.

    Args:
        batch_size: B, examples per step over all ranks and accumulated micro-batches.
        order: which rows an epoch visits, and in which order.
        repeats: n, steps taken on each minibatch with the same augmentation (n-step SGD).
        last_batch: where B does not divide N: "error", "short" (a smaller last minibatch) or "drop".
        train_size: number of training examples; None takes all that the validation set leaves.
        val_size: number of examples set aside for validation; 0 for none.
        balanced: equal numbers of each class in the training and validation sets.
        augment: random crops (zero-padding 4) and horizontal flips.
        seed: decides order and augmentation; None takes the run's ``seed_everything``.
        order_seed: a seed for the order alone.
        augmentation_seed: a seed for the augmentation alone.
        split_seed: decides which examples are for training and which for validation.
        eval_batch_size: examples per rank in one evaluation batch.
        evaluate_train: whether the training set, as it is without augmentation, is evaluated beside the
            others, as ``train_set``.
        evaluate_test: whether the test set is evaluated during training, beside the validation set.
        storage: "device" copies the training set to the training device; "host" leaves it where it is, which
            for a memory-mapped file means that only the rows of each batch are read.

    Raises:
        UserError: nothing is evaluated.
    """

    num_classes = 10

    def __init__(
        self,
        batch_size: int = 32,
        order: Order | None = None,
        repeats: int = 1,
        last_batch: LastBatch = "error",
        train_size: int | None = None,
        val_size: int = 0,
        balanced: bool = False,
        augment: bool = True,
        seed: int | None = None,
        order_seed: int | None = None,
        augmentation_seed: int | None = None,
        split_seed: int = 0,
        eval_batch_size: int = 500,
        evaluate_train: bool = False,
        evaluate_test: bool = True,
        storage: Storage = "device",
    ) -> None:
        super().__init__()
        self.batch_size, self.repeats, self.last_batch = batch_size, repeats, last_batch
        self.order = order or RandomReshuffling()
        self.train_size, self.val_size, self.balanced = train_size, val_size, balanced
        self.augment, self.eval_batch_size, self.storage = augment, eval_batch_size, storage
        self.evaluate_train, self.evaluate_test = evaluate_train, evaluate_test
        if not self.evaluation_splits:
            raise UserError(
                "data.evaluate_test: false with data.val_size: 0 leaves nothing to be evaluated; allowed: "
                "true, or a val_size"
            )
        self.seed = 0 if seed is None else seed
        self.order_seed = self.seed if order_seed is None else order_seed
        self.augmentation_seed = self.seed if augmentation_seed is None else augmentation_seed
        self.split_seed = split_seed
        self.device = torch.device("cpu")  # where data that is made, not read, is made
        self.subsets: dict[str, Subset] = {}
        self.itinerary: Itinerary | None = None

    @abstractmethod
    def read_splits(self) -> dict[str, Subset]:
        """The examples of "train", "val" and "test" (the second may be empty)."""

    @cached_property
    @abstractmethod
    def standardise(self) -> PerChannel | PerImage:
        """From pixels to the network's input."""

    @property
    def evaluation_splits(self) -> list[str]:
        asked = {"val": self.val_size > 0, "test": self.evaluate_test, "train_set": self.evaluate_train}
        return [split for split, is_evaluated in asked.items() if is_evaluated]

    @property
    def steps_per_epoch(self) -> int:
        return self.itinerary.steps_per_epoch

    @property
    def step_sizes(self) -> list[int]:
        return sorted({self.batch_size, self.itinerary.smallest}, reverse=True)

    def setup(self, stage: str | None = None) -> None:
        if self.itinerary is not None:
            return
        if self.eval_batch_size < 1:
            raise UserError(f"data.eval_batch_size: {self.eval_batch_size}; allowed: 1 or more")
        subsets = self.subsets or self.read_splits()
        self.itinerary = Itinerary(
            self.order, len(subsets["train"]), self.batch_size, self.repeats, self.last_batch, self.order_seed
        )
        self.subsets = subsets

    @property
    def source(self) -> dict[str, Any]:
        sizes = [self.train_size, self.val_size]
        return {"sizes": sizes, "balanced": self.balanced, "split_seed": self.split_seed}

    def take_over(self, other: KeyedData) -> None:
        self.subsets = other.subsets

    def split_pool(self, pool: Shard, test: Shard) -> dict[str, Subset]:
        """Training and validation examples from one pool, test examples from their own file."""
        train, val = split(pool.labels, self.val_size, self.train_size, self.split_seed, self.balanced)
        return {"train": Subset(pool, train), "val": Subset(pool, val), "test": whole(test)}

    def check(self, trainer: Trainer) -> None:
        """Everything that can be wrong about the data of a run, before the run leaves a trace.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """
        self.device = trainer.strategy.root_device
        self.setup()
        self.itinerary.rows(0)
        evaluated = {name: len(self._subset(name)) for name in self.evaluation_splits}
        check_loaders(self.step_sizes, self.steps_per_epoch, evaluated, trainer)

    def example(self) -> Batch:
        train = self.subsets["train"]
        row = train.shard.labels[train.rows].argmax().view(1)
        images, labels = train.take(row)
        return self.standardise(images.cpu()), labels.cpu()

    def batches(self, device: torch.device) -> "ImageBatches":
        return ImageBatches(self, device)

    def _subset(self, split: str) -> Subset:
        return self.subsets["train" if split == "train_set" else split]

    def evaluation_loader(self, split: str, batch_size: int | None = None) -> EvaluationLoader:
        device = self.trainer.strategy.root_device
        subset = self._subset(split).stored(self.storage, device)
        rows = torch.arange(len(subset), device=subset.device)

        def batch(part: slice) -> Batch:
            images, labels = subset.take(rows[part])
            return self.standardise(images.to(device)), labels.to(device)

        return EvaluationLoader(batch, len(subset), batch_size or self.eval_batch_size, self.trainer)

    def state_dict(self) -> dict[str, Any]:
        return {
            "class": type(self).__name__,
            "examples": len(self.subsets["train"]),
            "held out": [len(self.subsets[name]) for name in ("val", "test")],
            "balanced": self.balanced,
            "batch_size": self.batch_size,
            "order": self.order.description,
            "repeats": self.repeats,
            "last_batch": self.last_batch,
            "augment": self.augment,
            "seeds": [self.order_seed, self.augmentation_seed, self.split_seed],
        }


class ImageBatches(Batches):
    """The minibatches of an image shard: rows gathered, augmented and standardised on the device.

    Args:
        data: whose training set is visited.
        device: where batches are made.
    """

    def __init__(self, data: ImageShards, device: torch.device) -> None:
        super().__init__(data.batch_size, data.steps_per_epoch, data)
        self.subset = data.subsets["train"].stored(data.storage, device)
        self.itinerary, self.standardise, self.device = data.itinerary, data.standardise, device
        self.augment = None
        if data.augment:
            self.augment = CropAndFlip(4, True, data.augmentation_seed, data.batch_size)

    def size(self, step: int) -> int:
        return self.itinerary.size(step)

    def batch(self, step: int, part: slice) -> Batch:
        images, labels = self.subset.take(self.itinerary.rows(step, self.subset.device)[part])
        return self.finish(images, labels, lambda: self.row_starts(step)[part])

    def stack(self, first: int, count: int) -> Batch:
        count = min(count, max(1, _STACKED // (self.batch_size * self.subset.shape.numel())))
        rows = self.itinerary.stack(first, count, self.subset.device)
        images, labels = self.subset.take(rows.flatten())
        steps = range(first, first + len(rows))
        inputs, targets = self.finish(
            images, labels, lambda: torch.cat([self.row_starts(step) for step in steps])
        )
        return inputs.unflatten(0, rows.shape), targets.unflatten(0, rows.shape)

    def row_starts(self, step: int) -> Tensor:
        """Where the rows of the augmented images of a step start, see :class:`CropAndFlip`."""
        minibatch = self.itinerary.minibatch(step)
        return self.augment.row_starts(minibatch, self.subset.shape, self.device)[: self.size(step)]

    def finish(self, images: Tensor, labels: Tensor, row_starts: Callable[[], Tensor]) -> Batch:
        """From bytes ``[b, C, H, W]`` to the network's input."""
        images = images.to(self.device)
        if self.augment is not None:
            images = self.augment(images, row_starts())
        return self.standardise(images), labels.to(self.device)

    @staticmethod
    def across(members: "Sequence[Batches]", step: int) -> Batch:
        first = members[0]
        shared = all(m.subset is first.subset and m.size(step) == first.size(step) for m in members)
        if not shared or len(members) == 1:
            return Batches.across(members, step)
        rows = torch.cat([m.itinerary.rows(step, first.subset.device) for m in members])
        images, labels = first.subset.take(rows)
        inputs, targets = first.finish(
            images, labels, lambda: torch.cat([m.row_starts(step) for m in members])
        )
        shape = (len(members), first.size(step))
        return inputs.unflatten(0, shape), targets.unflatten(0, shape)


class CIFAR10(ImageShards):
    """CIFAR-10 (Krizhevsky 2009) from its official binary files: 50 000 + 10 000 images 3x32x32, ten classes.

    Args:
        root: folder that holds ``cifar-10-batches-bin`` or its files.
        fallback: "shapes" runs on the built-in image distribution when the files are not there; None stops.
    """

    def __init__(self, root: str = "data", fallback: Literal["shapes"] | None = None, **shard: Any) -> None:
        super().__init__(**shard)
        self.root, self.fallback = root, fallback

    @classmethod
    def substitute(cls, init_args: dict[str, Any]) -> tuple[str, dict[str, Any], str] | None:
        """What runs instead where the files are missing and the config asks for a fall-back.

        Returns:
            class path, its arguments, and the reason in words; None where no fall-back is due.
        """
        root = Path(init_args["root"])
        if (
            init_args.get("fallback") is None
            or locate(root, CIFAR10_FOLDERS, CIFAR10_TRAIN + CIFAR10_TEST) is not None
        ):
            return None
        shared = {key: value for key, value in init_args.items() if key not in ("root", "fallback")}
        if shared.get("train_size") is None:
            shared["train_size"] = 50000 - shared["val_size"]
        why = (
            f"no CIFAR-10 in {str(root)!r} (get it with: python -m sgdlit data cifar10 --root {root}), "
            "so data.fallback: shapes takes its place: the built-in image distribution"
        )
        return "sgdlit.data.modules.Shapes", shared, why

    @property
    def source(self) -> dict[str, Any]:
        return super().source | {"root": self.root}

    def read_splits(self) -> dict[str, Subset]:
        root = Path(self.root)
        try:
            train, test = read_cifar10(root, train=True), read_cifar10(root, train=False)
        except DataMissing as error:
            if self.fallback is not None:  # some of the files are there: a fall-back would hide what is wrong
                raise
            raise UserError(f"{error}\nor run on the built-in images: --data.fallback shapes") from error
        return self.split_pool(shard_from_arrays(*train), shard_from_arrays(*test))

    @cached_property
    def standardise(self) -> PerChannel:
        return PerChannel(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))


class FashionMNIST(ImageShards):
    """Fashion-MNIST (Xiao et al. 2017) from its IDX files: 60 000 + 10 000 images 1x28x28, ten classes.

    Args:
        root: folder that holds the four IDX files, gzipped or not.
        augment: random crops and flips; the protocols of Smith et al. 2021 use none here.
        pool: side of the squares of pixels that are averaged into one, for small studies: 1, 2, 4 or 7.

    Raises:
        UserError: squares that do not tile the image.
    """

    def __init__(self, root: str = "data", augment: bool = False, pool: int = 1, **shard: Any) -> None:
        super().__init__(augment=augment, **shard)
        if pool < 1 or 28 % pool or pool > 7:
            raise UserError(f"pool: {pool} is not allowed; allowed: 1, 2, 4 or 7, which tile 28 pixels")
        self.root, self.pool = root, pool

    @property
    def source(self) -> dict[str, Any]:
        return super().source | {"root": self.root, "pool": self.pool}

    def read_splits(self) -> dict[str, Subset]:
        train, test = (self._pooled(*read_fashion_mnist(Path(self.root), train)) for train in (True, False))
        return self.split_pool(train, test)

    def _pooled(self, images: np.ndarray, labels: np.ndarray) -> Shard:
        shard = shard_from_arrays(images, labels)
        if self.pool > 1:
            means = avg_pool2d(shard.images.float(), self.pool)
            shard.images = means.round_().to(torch.uint8)
        return shard

    @cached_property
    def standardise(self) -> PerImage:
        return PerImage()


class Shapes(ImageShards):
    """A finite shard of the built-in image distribution (``sgdlit.data.shapes``), 3x32x32, ten classes.

    Training, validation and test examples are three independent draws, so the training set of a smaller size
    is the beginning of that of a larger one, and the test set is the same for all.

    Args:
        train_size: number of training examples.
        test_size: number of test examples.
        data_seed: which draw of the distribution.
    """

    def __init__(
        self, train_size: int = 50000, test_size: int = 10000, data_seed: int = 0, **shard: Any
    ) -> None:
        super().__init__(train_size=train_size, **shard)
        self.test_size, self.data_seed = test_size, data_seed

    @property
    def source(self) -> dict[str, Any]:
        return super().source | {"test_size": self.test_size, "data_seed": self.data_seed}

    def read_splits(self) -> dict[str, Subset]:
        sizes = {"train": self.train_size, "val": self.val_size, "test": self.test_size}
        for name, size in sizes.items():
            if size < (name != "val"):
                raise UserError(f"data.{name}_size: {size}; allowed: {int(name != 'val')} or more")
        if self.balanced:
            raise UserError(
                "data.balanced: true is not possible with Shapes, whose labels are drawn; allowed: false"
            )
        return {name: whole(self._draw(name, size)) for name, size in sizes.items()}

    def _draw(self, name: str, size: int) -> Shard:
        key = derive_key(self.data_seed, f"shapes {name}")
        chunks = torch.arange(size, device=self.device).split(2000)
        drawn = [shapes.draw(key, chunk) for chunk in track(chunks, f"drawing {size} {name} images")]
        images, labels = zip(*drawn, strict=True)
        return Shard(torch.cat(images), torch.cat(labels))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"data_seed": self.data_seed}

    @cached_property
    def standardise(self) -> PerChannel:
        return PerChannel(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
