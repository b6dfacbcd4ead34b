"""Steps made together, and runs side by side, show what each step of each run shows alone: bit for bit."""

import pytest
import torch
from fake_trainer import attach
from official_formats import write_fashion_mnist

from sgdlit.data.image_stream import ShapesStream
from sgdlit.data.loaders import Block
from sgdlit.data.modules import FashionMNIST, Shapes
from sgdlit.data.orders import ForwardThenReversed
from sgdlit.data.sensing import MatrixSensing
from sgdlit.data.teachers import LinearTeacher
from sgdlit.foundations.errors import UserError

CPU = torch.device("cpu")


def shapes(seed=3, **values):
    return Shapes(train_size=30, test_size=2, seed=seed, **{"batch_size": 10, **values})


CASES = {
    "images, augmented": shapes,
    "images, repeated, reversed": lambda: shapes(repeats=3, order=ForwardThenReversed()),
    "images, a short last minibatch": lambda: shapes(batch_size=8, last_batch="short"),
    "stream": lambda: MatrixSensing(d=8, r=2, gamma=1.0, steps=50, batch_size=3, page_minibatches=7),
    "stream, repeated": lambda: LinearTeacher(d=8, steps=50, batch_size=2, repeats=4, page_minibatches=3),
    "stream of images": lambda: ShapesStream(steps=20, batch_size=4, page_minibatches=3),
    "stream of images, augmented": lambda: ShapesStream(steps=20, batch_size=4, augment=True),
    "shard of images, augmented, repeated": lambda: ShapesStream(
        steps=40, batch_size=4, augment=True, shard_size=10, last_batch="short", repeats=2
    ),
    "shard of a stream": lambda: LinearTeacher(
        d=8, steps=50, shard_size=20, batch_size=6, last_batch="short"
    ),
}


def prepared(make):
    data = attach(make())
    data.setup()
    return data


@pytest.mark.parametrize("case", CASES)
def test_a_block_shows_what_its_steps_show(case):
    data = prepared(CASES[case])
    together, alone = data.batches(CPU), data.batches(CPU)
    for start, count in ((0, 1), (0, 20), (5, 14), (19, 3)):
        step = start
        for inputs, targets in Block(start, count, [together]).pieces(0):
            for x, y in zip(inputs, targets, strict=True):
                expected = alone.batch(step, slice(0, alone.size(step)))
                assert torch.equal(x, expected[0])
                assert torch.equal(y, expected[1])
                step += 1
        assert step == start + count
        for step, (x, y) in enumerate(Block(start, count, [together]).steps(slice(0, 1)), start):
            expected = alone.batch(step, slice(0, alone.size(step)))
            assert torch.equal(x[0], expected[0])
            assert torch.equal(y[0], expected[1])


@pytest.mark.parametrize(
    "make",
    [
        shapes,
        lambda seed: MatrixSensing(d=8, r=2, gamma=1.0, steps=50, batch_size=3, seed=seed),
        lambda seed: LinearTeacher(d=8, steps=50, shard_size=20, batch_size=5, order_seed=seed, seed=0),
    ],
)
def test_runs_side_by_side_see_what_each_sees_alone(make):
    first = prepared(lambda: make(seed=0))
    others = [attach(make(seed=seed)) for seed in (1, 2)]
    for other in others:
        if other.source == first.source:
            other.take_over(first)
        other.setup()
    members = [data.batches(CPU) for data in (first, *others)]
    alone = [prepared(lambda seed=seed: make(seed=seed)).batches(CPU) for seed in range(3)]
    for step in (0, 7):
        inputs, targets = members[0].across(members, step)
        for k, single in enumerate(alone):
            x, y = single.batch(step, slice(0, single.size(step)))
            assert torch.equal(inputs[k], x)
            assert torch.equal(targets[k], y)
        assert not torch.equal(inputs[0], inputs[1])


def test_what_is_read_once_serves_all(tmp_path):
    write_fashion_mnist(tmp_path, 40)
    first = prepared(lambda: FashionMNIST(str(tmp_path), batch_size=5, seed=0))
    other = FashionMNIST(str(tmp_path), batch_size=5, seed=1)
    assert other.source == first.source
    other.take_over(first)
    other.setup()
    members = [data.batches(CPU) for data in (first, other)]
    assert members[0].subset is members[1].subset
    assert members[0].across(members, 3)[0].shape == (2, 5, 1, 28, 28)
    assert FashionMNIST(str(tmp_path), val_size=5).source != first.source
    assert FashionMNIST(str(tmp_path), pool=2).source != first.source


def test_pooled_images_have_the_means_of_their_squares(tmp_path):
    write_fashion_mnist(tmp_path, 6, 4)
    whole, pooled = (prepared(lambda k=k: FashionMNIST(str(tmp_path), batch_size=2, pool=k)) for k in (1, 7))
    for name in ("train", "test"):
        images, labels = whole.subsets[name].take(torch.arange(4))
        small, same = pooled.subsets[name].take(torch.arange(4))
        means = images.reshape(4, 1, 4, 7, 4, 7).double().mean((3, 5))
        assert small.dtype == torch.uint8
        assert (small - means).abs().max() <= 0.5 + 1e-5
        assert torch.equal(labels, same)
    for pool in (0, 3, 14):
        with pytest.raises(UserError, match=f"pool: {pool} is not allowed; allowed: 1, 2, 4 or 7"):
            FashionMNIST(str(tmp_path), pool=pool)


def test_which_sets_are_evaluated():
    assert shapes().evaluation_splits == ["test"]
    assert shapes(val_size=5, evaluate_train=True).evaluation_splits == ["val", "test", "train_set"]
    assert shapes(val_size=5, evaluate_test=False).evaluation_splits == ["val"]
