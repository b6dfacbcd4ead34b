"""The built-in image distribution as a stream: every picture is seen once."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sgdlit.data import shapes
from sgdlit.data.augmentation import CropAndFlip
from sgdlit.data.loaders import Batch
from sgdlit.data.shards import PerChannel
from sgdlit.data.streams import Split, StreamData


class ShapesStream(StreamData):
    """Pictures of ``sgdlit.data.shapes``, standardised: inputs ``[n, 3, 32, 32]``, labels int64 ``[n]``.

    Its splits are those of the finite :class:`sgdlit.data.modules.Shapes` whose ``data_seed`` equals ``seed``
    here: the same test set, and a training set that is the beginning of this stream.

    Args:
        augment: random crops (zero-padding 4) and horizontal flips of the training examples.
        stream: see :class:`StreamData`.
    """

    key_name = "shapes"
    num_classes = 10

    def __init__(self, augment: bool = False, **stream: Any) -> None:
        super().__init__(**stream)
        pixel = (0.5,) * shapes.CHANNELS, (0.25,) * shapes.CHANNELS
        self.standardise, self.augment = PerChannel(*pixel), augment
        self._crop_and_flip = CropAndFlip(4, True, self.order_seed, self.batch_size)

    @property
    def numbers(self) -> int:
        return shapes.CHANNELS * shapes.SIZE**2

    def describe(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"augment": self.augment}

    def draw(self, split: Split, index: Tensor) -> Batch:
        return shapes.draw(self.key(split), index)

    def prepare(self, inputs: Tensor) -> Tensor:
        return self.standardise(inputs).to(self.dtype)

    def prepare_training(self, inputs: Tensor, minibatches: Iterable[int], part: slice) -> Tensor:
        if self.augment:
            shape, device = inputs.shape[1:], inputs.device
            starts = [self._crop_and_flip.row_starts(m, shape, device)[part] for m in minibatches]
            inputs = self._crop_and_flip(inputs, torch.cat(starts))
        return self.prepare(inputs)
