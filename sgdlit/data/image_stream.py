"""The built-in image distribution as a stream: every picture is seen once."""

from typing import Any

from torch import Tensor

from sgdlit.data.augmentation import CropAndFlip
from sgdlit.data.batches import Batch
from sgdlit.data.finite import shapes
from sgdlit.data.shards import PerChannel, averaged
from sgdlit.data.streams import Split, StreamData


class ShapesStream(StreamData):
    """The built-in pictures, standardised: inputs ``[n, 3, 32/pool, 32/pool]``, labels int64 ``[n]``.

    Its splits are those of :class:`sgdlit.data.finite.shapes.Shapes` with ``data_seed`` = ``seed`` here: the
    same test set, and a training set that is the beginning of this stream.

    Args:
        augment: random crops (zero-padding 4) and horizontal flips of the training examples.
        difficulty: see :func:`sgdlit.data.finite.shapes.draw`.
        pool: side of the squares of pixels that are averaged into one: 1, 2 or 4.
        stream: see :class:`StreamData`.

    Raises:
        UserError: a difficulty outside of 0 to 1; squares that are none of these.
    """

    key_name = "shapes"
    num_classes = len(shapes.CLASS_NAMES)
    small = ({}, {"augment": True}, {"pool": 4, "difficulty": 0.5})

    def __init__(self, augment: bool = False, difficulty: float = 1.0, pool: int = 1, **stream: Any) -> None:
        super().__init__(**stream)
        shapes.check(difficulty, pool)
        self.augment, self.difficulty, self.pool = augment, difficulty, pool
        self.standardise = PerChannel((0.5,) * shapes.CHANNELS, (0.25,) * shapes.CHANNELS)

    @property
    def draws_per_example(self) -> int:
        return shapes.CHANNELS * shapes.SIZE**2

    def describe(self) -> dict[str, Any]:
        return {"difficulty": self.difficulty, "pool": self.pool}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"augment": self.augment}

    def draw(self, split: Split, index: Tensor) -> Batch:
        images, labels = shapes.draw(self.key(split), index, self.difficulty)
        return averaged(images, self.pool) if self.pool > 1 else images, labels

    def prepare(self, inputs: Tensor) -> Tensor:
        return self.standardise(inputs).to(self.dtype)

    def augmentation(self) -> CropAndFlip | None:
        return CropAndFlip(4, True, self.order_seed, self.batch_size) if self.augment else None
