"""Fashion-MNIST in 14×14 pixels, against the official files read by hand."""

import gzip

import numpy as np
import pytest
import torch
from cases import finite_set

from sgdlit.data.finite.fashion_mnist import FashionMNIST
from sgdlit.foundations.errors import UserError
from sgdlit.papers.support.fashion import fashion_14x14


@pytest.mark.parametrize(("split", "name"), [("train", "train"), ("test", "t10k")])
def test_pixels_are_means_of_squares_and_stand_in_the_order_of_the_file(split, name, tmp_path):
    root = finite_set(FashionMNIST, {}, tmp_path).root
    inputs, labels = fashion_14x14(root, split)
    [images_file] = tmp_path.rglob(f"{name}-images-idx3-ubyte*")
    [labels_file] = tmp_path.rglob(f"{name}-labels-idx1-ubyte*")
    read = [p.read_bytes() if p.suffix != ".gz" else gzip.decompress(p.read_bytes())
            for p in (images_file, labels_file)]  # fmt: skip
    pixels = np.frombuffer(read[0], np.uint8, offset=16).reshape(-1, 14, 2, 14, 2).mean((2, 4))
    expected = torch.from_numpy((pixels.reshape(-1, 196) / 255 - 0.286) / 0.32)
    assert inputs.shape == expected.shape
    assert inputs.dtype == torch.float32
    # Means are rounded to whole numbers of 255.
    torch.testing.assert_close(inputs.double(), expected, rtol=0, atol=0.5001 / 255 / 0.32)
    assert labels.tolist() == list(np.frombuffer(read[1], np.uint8, offset=8))


def test_without_the_folder_it_says_so():
    with pytest.raises(UserError, match="--data: not given"):
        fashion_14x14(None, "train")
