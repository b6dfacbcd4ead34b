"""Fashion-MNIST in 14×14 pixels, as the small studies of networks see it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sgdlit.foundations.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

MEAN, STD = 0.286, 0.32
"""Of the pixels of the training images, in [0, 1]."""


def fashion_14x14(data: Path | None, split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
    """The images of a split, averaged over squares of 2×2 pixels, as (x − 0.286)/0.32; and their classes.

    Args:
        data: the folder with the data sets.
        split: ``train`` or ``test``.

    Returns:
        Inputs, float32 ``[N, 196]``, and labels, int64 ``[N]``, as the files order them.

    Raises:
        UserError: no folder is given, or it does not hold the set.
    """
    if data is None:
        raise UserError("--data: not given, and this experiment trains on Fashion-MNIST")
    from sgdlit.data.finite.fashion_mnist import FashionMNIST

    images = FashionMNIST(root=str(data), augment=False, pool=2)
    shard = images.shard(*images.files.read(data, train=split == "train"))
    return (shard.inputs.flatten(1).float() / 255 - MEAN) / STD, shard.targets.long()
