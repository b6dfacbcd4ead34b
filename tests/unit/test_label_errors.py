"""Wrong labels: how many, which, and that nothing else of the data changes."""

import pytest
import torch
from cases import FINITE_SETS, LABEL_ERRORS
from fake_trainer import attach

from sgdlit.data.label_errors import DirectedErrors, LabelErrors, SymmetricErrors
from sgdlit.data.teachers import GaussianMixture, LinearTeacher
from sgdlit.foundations.errors import UserError

N = 40_000
INDEX, LABELS = torch.arange(N), torch.arange(N) % 10


@pytest.mark.parametrize("make", LABEL_ERRORS.values(), ids=LABEL_ERRORS)
def test_the_share_of_wrong_labels_is_the_one_asked_for(make):
    errors: LabelErrors = make(share=0.3)
    wrong = errors.apply(INDEX, LABELS, seed=0)
    share = float((wrong != LABELS).double().mean())
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / N) ** 0.5
    assert int(wrong.min()) >= 0
    assert int(wrong.max()) < 10
    some = torch.tensor([7, 3, N - 1])
    assert torch.equal(errors.apply(some, LABELS[some], 0), wrong[some])
    assert not torch.equal(errors.apply(INDEX, LABELS, 1), wrong)
    assert torch.equal(make(share=0.3, seed=0).apply(INDEX, LABELS, 1), wrong)
    assert torch.equal(make(share=0.0).apply(INDEX, LABELS, 0), LABELS)
    assert not (make(share=1.0).apply(INDEX, LABELS, 0) == LABELS).any()


def test_directed_errors_take_each_class_for_one_other():
    wrong = DirectedErrors(0.4, 10, shift=2).apply(INDEX, LABELS, 0)
    assert set(((wrong - LABELS) % 10).tolist()) == {0, 2}


def test_symmetric_errors_take_each_class_for_all_others_alike():
    wrong = SymmetricErrors(0.9, 10).apply(INDEX, LABELS, 0)
    counts = torch.bincount((wrong - LABELS) % 10, minlength=10)[1:].double()
    expected = 0.9 * N / 9
    assert (counts - expected).abs().max() < 5 * expected**0.5


@pytest.mark.parametrize("name", FINITE_SETS)
def test_only_the_training_labels_of_a_finite_set_change(name, tmp_path):
    clean = attach(FINITE_SETS[name](tmp_path))
    noisy = attach(FINITE_SETS[name](tmp_path, label_errors=DirectedErrors(1.0, 10, 3)))
    for data in (clean, noisy):
        data.setup()
    device = torch.device("cpu")
    for split in ("val", "test", "train_set"):
        everything = torch.arange(clean.size(split))
        (x, y), (same, wrong) = (data.examples(split, device).take(everything) for data in (clean, noisy))
        assert torch.equal(x, same)
        assert torch.equal(wrong, (y + 3) % 10 if split == "train_set" else y)
    assert clean.source != noisy.source
    assert clean.state_dict() != noisy.state_dict()
    batch, seen = (data.batches(device).batch(0, slice(0, 8))[1] for data in (clean, noisy))
    assert torch.equal(seen, (batch + 3) % 10)


@pytest.mark.parametrize("shard_size", [None, 16])
def test_only_the_training_labels_of_a_stream_change(shard_size):
    def mixture(errors):
        data = GaussianMixture(
            4, 5, steps=3, batch_size=8, val_size=6, shard_size=shard_size, label_errors=errors
        )
        data.setup()
        return attach(data)

    clean, noisy = mixture(None), mixture(DirectedErrors(1.0, 5, 1))
    device = torch.device("cpu")
    for step in range(2):
        (x, y), (same, wrong) = (data.batches(device).batch(step, slice(0, 8)) for data in (clean, noisy))
        assert torch.equal(x, same)
        assert torch.equal(wrong, (y + 1) % 5)
    for split in ("val", "test"):
        everything = torch.arange(clean.size(split))
        (_, y), (_, same) = (data.examples(split, device).take(everything) for data in (clean, noisy))
        assert torch.equal(y, same)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DirectedErrors(1.5), r"share: 1\.5"),
        (lambda: DirectedErrors(0.5, 1), "classes: 1"),
        (lambda: DirectedErrors(0.5, 5, 10), "shift: 10"),
        (lambda: SymmetricErrors(0.5, 4).apply(INDEX, LABELS, 0), "classes: 4, but there is a label 9"),
        (
            lambda: LinearTeacher(4, steps=2, label_errors=SymmetricErrors(0.5)).drawn("train", INDEX[:4]),
            "the targets are no classes",
        ),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(UserError, match=words):
        make()
