"""Fashion-MNIST: 60 000 + 10 000 images 1x28x28 in ten classes; 31 MB to fetch.

Source: Xiao, Rasul and Vollgraf, arXiv:1708.07747.
"""

from functools import cached_property
from typing import Any

import numpy as np

from sgdlit.data.image_shards import ImagesFromFiles
from sgdlit.data.official_files import OfficialFiles
from sgdlit.data.reading import Idx
from sgdlit.data.shards import PerImage, Shard, averaged
from sgdlit.foundations.errors import UserError


class FashionMNIST(ImagesFromFiles):
    """Fashion-MNIST (Xiao et al. 2017) from its IDX files: 60 000 + 10 000 images 1x28x28, ten classes.

    Args:
        augment: random crops and flips; the protocols of Smith et al. 2021 use none here.
        pool: side of the squares of pixels that are averaged into one, for small studies: 1, 2, 4 or 7.
        files: see :class:`ImagesFromFiles`.

    Raises:
        UserError: squares that do not tile the image.
    """

    files = OfficialFiles(
        title="Fashion-MNIST",
        name="fashion-mnist",
        format=Idx(shape=(1, 28, 28)),
        train=("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        test=("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        counts=(60_000, 10_000),
        base_url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        hashes={
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
        folders=("fashion-mnist", "FashionMNIST/raw"),
        config="configs/fashion_mlp.yaml",
    )
    small = ({}, {"pool": 7}, {"augment": True})

    def __init__(self, root: str = "data", augment: bool = False, pool: int = 1, **files: Any) -> None:
        super().__init__(root=root, augment=augment, **files)
        if pool < 1 or 28 % pool or pool > 7:
            raise UserError(f"pool: {pool} is not allowed; allowed: 1, 2, 4 or 7, which tile 28 pixels")
        self.pool = pool

    @property
    def source(self) -> dict[str, Any]:
        return super().source | {"pool": self.pool}

    def shard(self, images: np.ndarray, labels: np.ndarray) -> Shard:
        shard = super().shard(images, labels)
        if self.pool > 1:
            shard.inputs = averaged(shard.inputs, self.pool)
        return shard

    @cached_property
    def standardise(self) -> PerImage:
        return PerImage()
