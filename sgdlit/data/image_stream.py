"""The built-in image distribution as a stream: every picture is seen once."""

from typing import Any

from torch import Tensor

from sgdlit.data import shapes
from sgdlit.data.loaders import Batch
from sgdlit.data.shards import PerChannel
from sgdlit.data.streams import Split, StreamData


class ShapesStream(StreamData):
    """Pictures of ``sgdlit.data.shapes``, standardised: inputs ``[n, 3, 32, 32]``, labels int64 ``[n]``.

    Its splits are those of the finite :class:`sgdlit.data.modules.Shapes` whose ``data_seed`` equals ``seed``
    here: the same test set, and a training set that is the beginning of this stream.

    Args:
        stream: see :class:`StreamData`.
    """

    key_name = "shapes"
    num_classes = 10

    def __init__(self, **stream: Any) -> None:
        super().__init__(**stream)
        pixel = (0.5,) * shapes.CHANNELS, (0.25,) * shapes.CHANNELS
        self.standardise = PerChannel(*pixel)

    @property
    def numbers(self) -> int:
        return shapes.CHANNELS * shapes.SIZE**2

    def describe(self) -> dict[str, Any]:
        return {}

    def draw(self, split: Split, index: Tensor) -> Batch:
        return shapes.draw(self.key(split), index)

    def prepare(self, inputs: Tensor) -> Tensor:
        return self.standardise(inputs).to(self.dtype)
