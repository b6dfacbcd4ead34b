"""Finite sets of examples: where they lie, how they are split, and how a minibatch is taken from them."""

import math
import warnings
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sgdlit.data.class_selection import ClassSelection
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key, permutation

Storage = Literal["device", "host"]


class PerChannel:
    """Pixels to network input: (x/255 − mean) / std with the statistics of a training set, per channel."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.factor = 1.0 / (255.0 * torch.tensor(std).view(-1, 1, 1))
        self.offset = -(torch.tensor(mean) / torch.tensor(std)).view(-1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Float32 ``[b, C, H, W]`` from uint8 ``[b, C, H, W]``."""
        if self.factor.device != images.device:
            self.factor, self.offset = self.factor.to(images.device), self.offset.to(images.device)
        return images.to(torch.float32).mul_(self.factor).add_(self.offset)


class PerImage:
    """Pixels to network input: each image minus its mean, over its standard deviation (all pixels).

    A deviation below one grey level counts as one, so that an empty image stays finite.
    """

    def __call__(self, images: Tensor) -> Tensor:
        """Float32 ``[b, C, H, W]`` from uint8 ``[b, C, H, W]``."""
        x = images.to(torch.float32)
        x -= x.mean((1, 2, 3), keepdim=True)
        # torch.std_mean takes longer on a CPU.
        std = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True) / math.sqrt(x[0].numel())
        return x.div_(std.clamp_min(1.0))


@dataclass
class Shard:
    """Examples: ``inputs`` ``[N, ...]``, for images uint8 ``[N, C, H, W]``, and ``targets`` ``[N, ...]``."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def device(self) -> torch.device:
        """Where indices have to be."""
        return self.targets.device

    @property
    def shape(self) -> torch.Size:
        """Of one input."""
        return self.inputs.shape[1:]

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs ``[b, ...]`` and targets ``[b, ...]`` of the given examples, where the shard lies."""
        return self.inputs.index_select(0, indices), self.targets.index_select(0, indices)


@dataclass
class Subset:
    """Some examples of a shard that may be a file too large for memory: only what is asked for is read."""

    shard: Shard
    indices: Tensor
    _copies: dict[torch.device, Shard] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def shape(self) -> torch.Size:
        """Of one input."""
        return self.shard.shape

    @property
    def targets(self) -> Tensor:
        """Of every example of the subset."""
        return self.shard.targets.index_select(0, self.indices)

    @property
    def device(self) -> torch.device:
        """Where indices have to be."""
        return self.indices.device

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs ``[b, ...]`` and targets ``[b, ...]`` of the given examples of the subset."""
        return self.shard.take(self.indices.index_select(0, indices))

    def stored(self, storage: Storage, device: torch.device) -> "Shard | Subset":
        """The same examples where training wants them: copied to the device, once, or left where they are."""
        if storage == "host":
            return self
        if device not in self._copies:
            inputs, targets = self.take(torch.arange(len(self), device=self.device))
            self._copies[device] = Shard(inputs.to(device), targets.to(device))
        return self._copies[device]


def whole(shard: Shard) -> Subset:
    """Every example of a shard."""
    return Subset(shard, torch.arange(len(shard), device=shard.device))


def averaged(images: Tensor, side: int) -> Tensor:
    """uint8 images ``[n, c, h, w]`` whose pixels are the rounded means of squares of ``side`` pixels."""
    return avg_pool2d(images.float(), side).round_().to(torch.uint8)


def shard_from_arrays(images: np.ndarray, labels: np.ndarray) -> Shard:
    """A shard over numpy arrays, without copying the images (a memory map stays one)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "not writable": a shard never writes to its images
        return Shard(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def split(
    labels: Tensor,
    val_size: int,
    train_size: int | None,
    seed: int,
    balanced: bool,
    selection: ClassSelection | None = None,
) -> tuple[Tensor, Tensor]:
    """Indices of a training and a validation set that do not overlap.

    The validation set does not depend on ``train_size``, and the training set of a smaller size is contained
    in that of a larger one, so runs on different amounts of data can be compared.

    Args:
        labels: int64 ``[N]``; −1 for those that are left out.
        val_size: number of validation examples.
        train_size: number of training examples; None takes all that remain.
        seed: seed of the split.
        balanced: equal numbers per class, to within one.
        selection: how the training examples of each class are thinned out.

    Raises:
        UserError: more examples are asked for than there are.
    """
    indices = permutation(derive_key(seed, "split"), len(labels))
    if selection is not None:
        indices = indices[labels[indices] >= 0]
    if balanced:
        indices = _interleave_classes(indices, labels[indices])
    val, rest = indices[: max(0, val_size)], indices[max(0, val_size) :]
    if selection is not None:
        rest = rest[selection.thinned(labels[rest])]
    train_size = len(rest) if train_size is None else train_size
    if val_size < 0 or len(val) < val_size or not 1 <= train_size <= len(rest):
        thinned = selection is not None and selection.description
        there = f"{len(val) + len(rest)} examples {f'that {thinned} leaves' if thinned else 'there are'}"
        raise UserError(
            f"data.train_size: {train_size} with data.val_size: {val_size} is not possible; "
            f"allowed: at least 1 and 0, together at most the {there}"
        )
    return rest[:train_size], val


def _interleave_classes(indices: Tensor, labels: Tensor) -> Tensor:
    """Reorder so that every prefix holds the classes in equal numbers, as far as they last."""
    by_class = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels)
    first = torch.cumsum(counts, 0) - counts
    rank = torch.empty_like(labels)
    rank[by_class] = torch.arange(len(labels)) - first[labels[by_class]]
    return indices[torch.argsort(rank, stable=True)]
