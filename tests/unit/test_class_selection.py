"""Some classes of a set, and how often each occurs in training: counted on small sets of every kind."""

import pytest
import torch
from cases import FINITE_SETS
from fake_trainer import attach

from sgdlit.data.class_selection import ClassSelection
from sgdlit.data.finite.shapes import Shapes
from sgdlit.data.label_errors import SymmetricErrors
from sgdlit.data.shards import whole
from sgdlit.foundations.errors import UserError


def ready(make, *given, **arguments):
    data = attach(make(*given, **arguments))
    data.setup()
    return data


@pytest.mark.parametrize("name", FINITE_SETS)
def test_the_examples_of_some_classes_are_those_of_the_set_under_new_numbers(name, tmp_path):
    sizes = {"val_size": 2, "train_size": 6, "batch_size": 2}
    everything = ready(
        FINITE_SETS[name], tmp_path, val_size=0, train_size=None if "Shapes" not in name else 40
    )
    some = ready(FINITE_SETS[name], tmp_path, classes=[7, 2], **sizes)
    for split in ("train_set", "val", "test"):
        inputs, labels = some.tensors(split)
        assert set(labels.tolist()) <= {0, 1}
        there, known = everything.tensors("test" if split == "test" else "train_set")
        if split == "test" and "Shapes" not in name:
            assert torch.equal(inputs, there[(known == 7) | (known == 2)])
        for x, y in zip(inputs, labels, strict=True):
            alike = (there == x).flatten(1).all(1)
            if "Shapes" not in name or split == "train_set":
                assert known[alike].tolist() == [[7, 2][int(y)]]
    assert len(some.tensors("train_set")[1]) == 6
    assert some.source != everything.source


def test_classes_of_drawn_images_are_nested_over_sizes():
    small, large = (
        ready(Shapes, train_size=n, test_size=4, batch_size=2, classes=[1, 3, 5], seed=0) for n in (6, 20)
    )
    assert torch.equal(large.tensors("train_set")[0][:6], small.tensors("train_set")[0])
    assert torch.equal(large.tensors()[0], small.tensors()[0])


def test_every_beginning_has_the_weights_that_were_asked_for():
    labels = torch.randint(0, 3, (3000,), generator=torch.Generator().manual_seed(0))
    kept = ClassSelection(None, [1.0, 0.1, 0.25]).thinned(labels)
    for end in (100, 1000, 3000):
        there = torch.bincount(labels[:end], minlength=3)
        found = torch.bincount(labels[:end][kept[:end]], minlength=3)
        assert found.tolist() == [int(there[0]), int(there[1]) // 10, int(there[2]) // 4]


def test_weights_thin_out_training_examples_alone(tmp_path):
    name = next(name for name in FINITE_SETS if name.startswith("FashionMNIST"))
    weights = [1.0, *[0.5] * 9]
    plain = ready(FINITE_SETS[name], tmp_path, val_size=10, train_size=None)
    thin = ready(FINITE_SETS[name], tmp_path, val_size=10, train_size=None, class_weights=weights)
    for split in ("val", "test"):
        assert torch.equal(plain.tensors(split)[0], thin.tensors(split)[0])
    there, found = (torch.bincount(d.tensors("train_set")[1], minlength=10).tolist() for d in (plain, thin))
    assert found == [there[0], *(count // 2 for count in there[1:])]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"classes": [1, 1]}, r"data\.classes: \[1, 1\] is not possible"),
        ({"classes": [3]}, "two labels or more"),
        ({"classes": [0, 10]}, "there is no class 10; allowed: 0 to 9"),
        ({"class_weights": [1.0, 0.5]}, "2 for 10 classes"),
        ({"classes": [0, 1], "class_weights": [0.5, 0.2]}, "the largest of them 1"),
        ({"classes": [0, 1], "class_weights": [1.0]}, "1 for 2 classes"),
        ({"classes": [0, 1], "label_errors": SymmetricErrors(0.2)}, "10 is more than the 2 classes"),
    ],
)
def test_what_is_not_possible_is_said(given, words):
    with pytest.raises(UserError, match=words):
        ready(Shapes, train_size=4, test_size=2, batch_size=2, **given)


def test_balanced_and_weights_do_not_go_together(tmp_path):
    name = next(name for name in FINITE_SETS if name.startswith("FashionMNIST"))
    with pytest.raises(UserError, match="class_weights: not possible with"):
        FINITE_SETS[name](tmp_path, balanced=True, class_weights=[1.0] * 10)
    with pytest.raises(UserError, match=r"that \{'classes': \[1, 2\]\} leaves"):
        ready(FINITE_SETS[name], tmp_path, classes=[1, 2], train_size=60, val_size=0)


def test_a_set_that_selects_no_classes_says_so():
    class Drawn(Shapes):
        def read_splits(self):
            return {name: whole(self._draw(name, 4)) for name in ("train", "val", "test")}

    assert len(ready(Drawn, batch_size=2).tensors("test")[1]) == 4
    with pytest.raises(UserError, match=r"data\.classes: Drawn selects no classes"):
        ready(Drawn, batch_size=2, classes=[0, 1])
