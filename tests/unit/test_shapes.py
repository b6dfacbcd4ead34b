"""The built-in image distribution: a pure function of (key, index) in which only pattern and shape tell."""

import math
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.nn.functional import one_hot

from sgdlit.data.finite import shapes
from sgdlit.data.finite.shapes import CLASS_NAMES, draw
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key

KEY, OTHER_KEY = derive_key(0, "train"), derive_key(1, "train")
CLASSES = len(CLASS_NAMES)


@pytest.fixture(scope="module")
def train_set():
    return draw(KEY, torch.arange(4000))


@pytest.fixture(scope="module")
def test_set():
    return draw(OTHER_KEY, torch.arange(2000))


def accuracy(predicted, labels):
    return (predicted == labels).double().mean().item()


def test_types_shapes_and_range(train_set):
    images, labels = train_set
    assert images.dtype == torch.uint8
    assert images.shape == (4000, 3, 32, 32)
    assert labels.dtype == torch.int64
    assert labels.shape == (4000,)
    assert (int(labels.min()), int(labels.max())) == (0, CLASSES - 1)
    assert images.min() == 0
    assert images.max() == 255
    empty_images, empty_labels = draw(KEY, torch.arange(0))
    assert empty_images.shape == (0, 3, 32, 32)
    assert empty_labels.shape == (0,)


@pytest.mark.parametrize("index", [torch.zeros(2, 2, dtype=torch.int64), torch.arange(3.0), torch.tensor(4)])
def test_another_kind_of_index_is_refused(index):
    with pytest.raises(UserError, match="allowed: torch"):
        draw(KEY, index)


def test_ten_classes_of_five_patterns_and_five_shapes():
    assert len(set(CLASS_NAMES)) == 10
    patterns, forms = zip(*(name.split() for name in CLASS_NAMES), strict=True)
    assert set(Counter(patterns).values()) == set(Counter(forms).values()) == {2}


@pytest.mark.parametrize(
    "index",
    [
        torch.tensor([0]),
        torch.tensor([64, 63, 65]),
        torch.arange(199, -1, -1),
        torch.tensor([5, 5, 130, 5]),
        torch.arange(3, 200, 7),
    ],
    ids=["one", "around a chunk's end", "backwards", "repeated", "strided"],
)
def test_a_picture_depends_on_its_index_alone(train_set, index):
    images, labels = draw(KEY, index)
    assert torch.equal(images, train_set[0][index])
    assert torch.equal(labels, train_set[1][index])


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_chunk_changes_nothing(train_set, monkeypatch, chunk):
    monkeypatch.setitem(shapes._CHUNK, "cpu", chunk)
    images, labels = draw(KEY, torch.arange(150))
    assert torch.equal(images, train_set[0][:150])
    assert torch.equal(labels, train_set[1][:150])


def test_indices_beyond_32_bits_are_new_scenes(monkeypatch):
    monkeypatch.setattr(shapes, "_NOISE_AMPLITUDE", (0.0, 0.0))
    scenes, _ = draw(KEY, torch.cat([torch.arange(200) + start for start in (0, 2**12, 2**32, 2**40)]))
    assert len({scene.tobytes() for scene in scenes.numpy()}) == 800


def test_no_two_pictures_are_equal_within_or_across_keys(train_set, test_set):
    pictures = torch.cat((train_set[0], test_set[0])).flatten(1).numpy()
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_labels_are_uniform():
    """Each count of a multinomial with p = 1/10 has the standard error √(n p (1 − p))."""
    n = 200_000
    counts = torch.bincount(shapes._labels(KEY, torch.arange(n)), minlength=CLASSES).double()
    assert (counts - n / CLASSES).abs().max() < 5 * math.sqrt(n * 0.1 * 0.9)


def moments(images):
    values = images.float().flatten(2)
    return torch.cat((values.mean(2), values.std(2)), 1)


def test_channel_means_and_deviations_do_not_tell_the_class(train_set, test_set):
    features, labels = moments(train_set[0]), train_set[1]
    centre, scale = features.mean(0), features.std(0)
    means = torch.stack([((features - centre) / scale)[labels == label].mean(0) for label in range(CLASSES)])
    nearest = torch.cdist((moments(test_set[0]) - centre) / scale, means).argmin(1)
    assert accuracy(nearest, test_set[1]) < 0.20


def test_a_linear_probe_stays_under_45_percent(train_set, test_set):
    """Ridge regression to one-hot labels on standardised pixels, in its dual form: w = Xᵀ(XXᵀ + n·p I)⁻¹Y."""
    pixels, labels = train_set[0].float().flatten(1), train_set[1]
    centre, scale = pixels.mean(0), pixels.std(0)
    x, x_test = ((p - centre) / scale for p in (pixels, test_set[0].float().flatten(1)))
    gram = x @ x.T
    dual = torch.linalg.solve(
        gram + x.shape[1] * torch.eye(len(x)), one_hot(labels, CLASSES).float() - 1 / CLASSES
    )
    assert accuracy((x_test @ (x.T @ dual)).argmax(1), test_set[1]) < 0.45


def uniforms(n, count, seed):
    return shapes.uniform(derive_key(seed, "test"), torch.arange(n), count)


def test_shapes_have_the_area_of_their_disc():
    """Area π·radius² for every outline, from the mean coverage on the pixel grid."""
    n, (x, y) = 400, shapes._grid(torch.device("cpu"))
    pose = uniforms(n, 4, 0)
    pose[:, 0] = 0.0  # the smallest: the whole shape lies in the picture
    for number, name in enumerate(shapes.SHAPE_NAMES):
        mask = shapes._shape_mask(x.expand(n, -1), y.expand(n, -1), pose, torch.full((n,), number), 1.0)
        area = mask.sum(1).mean().item() / shapes._RADIUS[0] ** 2
        assert area == pytest.approx(math.pi, rel=0.01), name


def test_patterns_have_mean_zero_and_one_deviation():
    n, (x, y) = 2000, shapes._grid(torch.device("cpu"))
    inside = x**2 + y**2 < 9**2
    for number, name in enumerate(shapes.PATTERN_NAMES):
        wave = shapes._wave(x, y, uniforms(n, 4, 1), torch.full((n,), number))[:, inside]
        assert wave.mean().item() == pytest.approx(0, abs=0.02), name
        assert wave.std().item() == pytest.approx(0.82, abs=0.05), name


def test_contact_sheet_shows_every_class(tmp_path):
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
    try:
        from contact_sheet import contact_sheet, first_of_each_class
    finally:
        sys.path.pop(0)
    sheet = first_of_each_class(0, 2)
    assert sheet.shape == (CLASSES, 2, 3, 32, 32)
    contact_sheet(tmp_path / "sheet.png", count=2)
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_an_easy_picture_is_an_even_ground_with_an_upright_shape():
    """At difficulty 0 the ground has one colour, and shapes of one kind cover the same pixels."""
    images, labels = shapes.draw(derive_key(0, "easy"), torch.arange(200), difficulty=0.0)
    corners = images[:, :, :2, :2].flatten(2)
    assert bool((corners == corners[..., :1]).all())
    for label in labels.unique():
        own = images[labels == label]
        covered = (own != own[..., :1, :1]).any(1).float().mean(0)
        assert bool((covered == 0).any())
        between = (covered > 0) & (covered < 0.5)  # of a colour so near the ground's that it rounds to it
        assert float(between.float().mean()) < 0.05


def test_the_whole_difficulty_is_the_default():
    key, index = derive_key(3, "x"), torch.arange(30)
    assert shapes.draw(key, index)[0].equal(shapes.draw(key, index, 1.0)[0])
    assert not shapes.draw(key, index)[0].equal(shapes.draw(key, index, 0.5)[0])


@pytest.mark.parametrize(("given", "words"), [({"difficulty": 1.5}, "0 to 1"), ({"pool": 3}, "1, 2 or 4")])
def test_impossible_pictures_are_refused(given, words):
    with pytest.raises(UserError, match=words):
        shapes.Shapes(**given)


def test_pooled_pictures_are_means():
    data = shapes.Shapes(train_size=8, test_size=8, pool=2, batch_size=8)
    data.setup()
    small = data.subsets["train"].shard.inputs
    whole = shapes.draw(derive_key(0, "shapes train"), torch.arange(8))[0]
    assert small.shape == (8, 3, 16, 16)
    means = whole.double().unflatten(3, (16, 2)).unflatten(2, (16, 2)).mean((3, 5))
    assert bool(((small.double() - means).abs() <= 0.5).all())
