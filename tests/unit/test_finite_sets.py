"""What single finite sets have of their own; what holds for all of them is in test_data.py."""

import pytest
import torch
from fake_trainer import attach
from official_formats import write_fashion_mnist

from sgdlit.data.finite.fashion_mnist import FashionMNIST
from sgdlit.data.finite.shapes import Shapes
from sgdlit.foundations.errors import UserError

CPU = torch.device("cpu")


def shapes(seed=3, **values):
    return Shapes(train_size=30, test_size=2, seed=seed, **{"batch_size": 10, **values})


def prepared(make):
    data = attach(make())
    data.setup()
    return data


def test_what_is_read_once_serves_all(tmp_path):
    write_fashion_mnist(tmp_path, 40)
    first = prepared(lambda: FashionMNIST(str(tmp_path), batch_size=5, seed=0))
    other = FashionMNIST(str(tmp_path), batch_size=5, seed=1)
    assert other.source == first.source
    other.take_over(first)
    other.setup()
    members = [data.batches(CPU) for data in (first, other)]
    assert members[0].examples is members[1].examples
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
