"""Corrupted inputs: which, how much, and that nothing else of the data changes."""

import pytest
import torch
from cases import CORRUPTIONS, FINITE_SETS
from fake_trainer import attach

from sgdlit.data.corruptions import GaussianNoise, Occlusion, ShuffledPixels
from sgdlit.data.label_errors import DirectedErrors
from sgdlit.data.teachers import GaussianMixture
from sgdlit.foundations.errors import UserError

INDEX = torch.arange(400)
IMAGES = torch.randint(
    100, 156, (400, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


@pytest.mark.parametrize("make", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_an_example_is_corrupted_alike_whatever_it_stands_beside(make):
    corrupted = make(share=0.5).apply(INDEX, IMAGES, 0)
    changed = (corrupted != IMAGES).flatten(1).any(1)
    assert abs(float(changed.double().mean()) - 0.5) < 5 * (0.25 / 400) ** 0.5
    some = torch.tensor([7, 3, 399])
    assert torch.equal(make(share=0.5).apply(some, IMAGES[some], 0), corrupted[some])
    assert not torch.equal(make(share=0.5).apply(INDEX, IMAGES, 1), corrupted)
    assert not torch.equal(make(share=0.5).apply(INDEX, IMAGES, 0, "test"), corrupted)
    assert torch.equal(make(share=0.5, seed=0).apply(INDEX, IMAGES, 1), corrupted)
    assert make(share=0.5).apply(INDEX[:0], IMAGES[:0], 0).shape == IMAGES[:0].shape
    assert make().concerns("train")
    assert not make().concerns("test")
    assert make(everywhere=True).concerns("test")
    assert make(share=0.4).description != make(share=0.5).description


def test_noise_has_the_deviation_that_was_asked_for():
    noise = (GaussianNoise(0.1).apply(INDEX, IMAGES, 0).float() - IMAGES) / 255
    assert abs(float(noise.std()) - 0.1) < 5 * 0.1 / (2 * noise.numel()) ** 0.5
    assert abs(float(noise.mean())) < 5 * 0.1 / noise.numel() ** 0.5
    real = GaussianNoise(2.0).apply(INDEX, torch.zeros(400, 7), 0)
    assert abs(float(real.std()) - 2.0) < 5 * 2.0 / (2 * real.numel()) ** 0.5


def test_shuffled_pixels_are_the_same_numbers_in_other_places():
    for alike in (True, False):
        moved = ShuffledPixels(alike).apply(INDEX, IMAGES, 0).flatten(2)
        assert torch.equal(moved.sort(-1).values, IMAGES.flatten(2).sort(-1).values)
    place = torch.arange(64).view(1, 1, 8, 8).expand(400, 3, 8, 8).to(torch.uint8)
    alike, own = (ShuffledPixels(alike).apply(INDEX, place, 0) for alike in (True, False))
    assert (alike == alike[:1, :1]).all()
    assert (own == own[:, :1]).all()
    assert len({tuple(image.flatten().tolist()) for image in own[:, 0]}) == 400


def test_an_occlusion_is_a_black_square_somewhere():
    black = (Occlusion(3).apply(INDEX, IMAGES, 0) == 0)[:, 0]
    rows, columns = black.any(2), black.any(1)
    assert (black.flatten(1).sum(1) == 9).all()
    assert (rows.sum(1) == 3).all()
    assert (columns.sum(1) == 3).all()
    assert len({tuple(image.flatten().tolist()) for image in black}) > 30  # of 36 places


@pytest.mark.parametrize("name", FINITE_SETS)
@pytest.mark.parametrize("everywhere", [False, True])
def test_evaluation_sets_are_clean_unless_asked(name, everywhere, tmp_path):
    corruption, errors = (
        GaussianNoise(0.2, everywhere=everywhere),
        DirectedErrors(1.0, 10, 3, None, everywhere),
    )
    clean = attach(FINITE_SETS[name](tmp_path))
    dirty = attach(FINITE_SETS[name](tmp_path, corruption=corruption, label_errors=errors))
    for split in ("train_set", "val", "test"):
        (x, y), (noisy, wrong) = clean.tensors(split), dirty.tensors(split)
        touched = everywhere or split == "train_set"
        assert torch.equal(x, noisy) != touched
        assert torch.equal(wrong, (y + 3) % 10 if touched else y)
    assert clean.source != dirty.source
    assert clean.state_dict() != dirty.state_dict()


def test_a_stream_is_corrupted_alike():
    def mixture(corruption):
        data = attach(GaussianMixture(4, 5, steps=3, batch_size=8, val_size=6, corruption=corruption))
        data.setup()
        return data

    clean, noisy = mixture(None), mixture(GaussianNoise(0.3))
    (x, y), (other, same) = (d.batches(torch.device("cpu")).batch(1, slice(0, 8)) for d in (clean, noisy))
    expected = GaussianNoise(0.3).apply(torch.arange(8, 16), x, 0)
    assert torch.equal(other, expected)
    assert torch.equal(y, same)
    assert torch.equal(clean.tensors("val")[0], noisy.tensors("val")[0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GaussianNoise(0.0), r"std: 0\.0 is not possible"),
        (lambda: GaussianNoise(0.1, share=2), "share: 2 is not possible"),
        (lambda: Occlusion(0), "side: 0"),
        (lambda: Occlusion(9).apply(INDEX, IMAGES, 0), r"9 for inputs of shape \(3, 8, 8\)"),
        (lambda: GaussianNoise(0.1).apply(INDEX, INDEX.unsqueeze(1), 0), "bytes, or real numbers"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(UserError, match=words):
        make()
