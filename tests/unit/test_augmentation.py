"""Crops and flips against a plain loop that does them one image at a time."""

import pytest
import torch
from torch.nn import functional as F

from sgdlit.data.augmentation import CropAndFlip


def by_hand(images, draws, padding):
    out = []
    for image, (down, right, flip) in zip(images, draws.tolist(), strict=True):
        padded = F.pad(image.flip(-1) if flip else image, (padding,) * 4)
        out.append(padded[:, down : down + image.shape[1], right : right + image.shape[2]])
    return torch.stack(out)


@pytest.mark.parametrize(("shape", "padding"), [((3, 32, 32), 4), ((1, 28, 28), 4), ((2, 5, 7), 0)])
@pytest.mark.parametrize("flip", [True, False])
def test_equals_a_plain_loop(shape, padding, flip):
    images = torch.randint(0, 256, (20, *shape), dtype=torch.uint8)
    augment = CropAndFlip(padding, flip, seed=5, batch_size=20)
    for visit in (0, 3, 1000):
        draws = augment.draws(visit * 20, 20)
        starts = augment.line_starts(visit, images.shape[1:], images.device)
        assert torch.equal(augment(images, starts), by_hand(images, draws, padding))
        assert flip or not draws[:, 2].any()


def test_a_slice_of_the_batch_is_augmented_as_in_the_whole():
    images = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8)
    augment = CropAndFlip(4, True, seed=0, batch_size=32)
    starts = augment.line_starts(9, images.shape[1:], images.device)
    whole = augment(images, starts)
    for part in (slice(0, 8), slice(8, 16), slice(31, 32)):
        assert torch.equal(augment(images[part], starts[part]), whole[part])


def test_every_shift_and_flip_is_drawn_evenly_and_anew():
    draws = CropAndFlip(4, True, seed=0, batch_size=32).draws(0, 40_000)
    for column, values in ((0, 9), (1, 9), (2, 2)):
        counts = torch.bincount(draws[:, column], minlength=values)
        expected = 40_000 / values
        assert len(counts) == values
        assert (counts - expected).abs().max() < 5 * expected**0.5
    assert not torch.equal(draws[:32], draws[32:64])
    assert not torch.equal(draws, CropAndFlip(4, True, seed=1, batch_size=32).draws(0, 40_000))
