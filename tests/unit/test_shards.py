"""Splits, standardisation and the loaders of finite shards."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode

from sgdlit.data.batches import Batches, Block
from sgdlit.data.loaders import BlockLoader, EvaluationLoader, StepLoader, check_loaders
from sgdlit.data.orders import ForwardThenReversed, Itinerary, RandomReshuffling
from sgdlit.data.shards import PerChannel, PerImage, Shard, Subset, shard_from_arrays, split, whole
from sgdlit.foundations.errors import UserError


def clock(step=0, micro=1, ranks=1, rank=0):
    return SimpleNamespace(
        global_step=step, accumulate_grad_batches=micro, world_size=ranks, global_rank=rank
    )


class Rows(Batches):
    """The rows themselves as inputs, and the step as targets."""

    def __init__(self, itinerary):
        super().__init__(itinerary.batch_size, itinerary.steps_per_epoch)
        self.itinerary, self.size = itinerary, itinerary.size

    def batch(self, step, part):
        rows = self.itinerary.indices(step)[part]
        return rows, torch.full_like(rows, step)

    def stack(self, first, count):
        rows = self.itinerary.stack(first, count)
        steps = torch.arange(first, first + len(rows))
        return rows, steps.unsqueeze(1).expand(rows.shape)


@given(total=st.integers(2, 300), share=st.floats(0, 0.9), seed=st.integers(0, 99), balanced=st.booleans())
@settings(max_examples=40, deadline=None)
def test_split_is_a_partition(total, share, seed, balanced):
    labels = torch.arange(total) % 7
    train, val = split(labels, int(total * share), None, seed, balanced)
    assert len(val) == int(total * share)
    assert torch.equal(torch.cat((train, val)).sort().values, torch.arange(total))


def test_smaller_training_sets_are_nested_and_validation_stays():
    labels = torch.arange(1000) % 10
    small, val = split(labels, 100, 200, 0, True)
    large, same = split(labels, 100, 700, 0, True)
    assert torch.equal(val, same)
    assert torch.equal(large[:200], small)
    assert torch.equal(labels[small].bincount(), torch.full((10,), 20))
    assert not torch.equal(small, split(labels, 100, 200, 1, True)[0])


@pytest.mark.parametrize(("val", "train"), [(-1, 5), (5, 6), (10, None), (0, 0)])
def test_impossible_splits_are_refused(val, train):
    with pytest.raises(UserError, match=r"data\.train_size"):
        split(torch.zeros(10, dtype=torch.int64), val, train, 0, False)


def test_standardisation_against_numpy():
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    x = images.numpy().astype(np.float64)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    expected = (x / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(PerChannel(mean, std)(images).numpy(), expected, atol=1e-5)
    expected = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(PerImage()(images).numpy(), expected, atol=1e-5)
    assert PerImage()(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)).abs().max() == 0


def test_storage_does_not_change_what_is_taken(tmp_path):
    images = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (50, 1, 4, 4))
    images[:] = np.random.default_rng(0).integers(0, 256, images.shape)
    images.flush()
    shard = shard_from_arrays(np.load(tmp_path / "images.npy", mmap_mode="r"), np.arange(50) % 10)
    subset, cpu = Subset(shard, torch.tensor([9, 3, 40])), torch.device("cpu")
    rows = torch.tensor([2, 0, 2])
    for kept in (subset.stored("host", cpu), subset.stored("device", cpu)):
        taken, labels = kept.take(rows)
        assert torch.equal(taken, torch.from_numpy(np.array(images))[[40, 9, 40]])
        assert labels.tolist() == [0, 9, 0]


@given(
    ranks=st.sampled_from([1, 2, 4]),
    micro=st.sampled_from([1, 3]),
    start=st.integers(0, 30),
    repeats=st.integers(1, 2),
)
@settings(max_examples=30, deadline=None)
def test_what_a_step_sees_does_not_depend_on_how_it_is_shared(ranks, micro, start, repeats):
    itinerary = Itinerary(RandomReshuffling(), 60, 24, repeats, last_batch="short", seed=1)

    loaders = [StepLoader(Rows(itinerary), clock(start, micro, ranks, rank)) for rank in range(ranks)]
    shares = [list(loader) for loader in loaders]
    assert {len(share) for share in shares} == {itinerary.steps_per_epoch * micro}
    for k in range(itinerary.steps_per_epoch):
        parts = [shares[rank][k * micro + m][0] for m in range(micro) for rank in range(ranks)]
        assert torch.equal(torch.cat(parts), itinerary.indices(start + k))


@given(
    start=st.integers(0, 40),
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=9),
    repeats=st.integers(1, 3),
    batch_size=st.sampled_from([1, 7, 24, 60]),
    last_batch=st.sampled_from(["short", "drop"]),
)
@settings(max_examples=60, deadline=None)
def test_blocks_hold_the_batches_of_their_steps(start, lengths, repeats, batch_size, last_batch):
    itinerary = Itinerary(ForwardThenReversed(), 60, batch_size, repeats, last_batch, seed=1)
    rows, alone = Rows(itinerary), Itinerary(ForwardThenReversed(), 60, batch_size, repeats, last_batch, 1)
    chosen = iter(lengths * 999)
    blocks = list(BlockLoader([rows], clock(start), lambda step: next(chosen)))
    assert sum(map(len, blocks)) == itinerary.steps_per_epoch
    step = start
    for block in blocks:
        assert block.start == step
        for seen, steps in block.pieces(0):
            for k in range(len(seen)):
                assert torch.equal(seen[k], alone.indices(step))
                assert torch.equal(block.batch(step - block.start, slice(0, 1))[0][0], seen[k])
                assert steps[k, 0] == step
                step += 1


def test_a_block_of_several_runs_stacks_what_each_sees():
    members = [Rows(Itinerary(RandomReshuffling(), 60, 6, seed=seed)) for seed in range(3)]
    inputs, steps = Block(5, 4, members).batch(2, slice(1, 3))
    assert torch.equal(inputs, torch.stack([member.batch(7, slice(0, 6))[0] for member in members[1:]]))
    assert steps.tolist() == [[7] * 6] * 2


@given(examples=st.integers(0, 40), ranks=st.sampled_from([1, 2, 3]), batch_size=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_evaluation_sees_every_example_once(examples, ranks, batch_size):
    data = torch.arange(examples)
    loaders = [
        EvaluationLoader(lambda part: (data[part],) * 2, examples, batch_size, clock(ranks=ranks, rank=rank))
        for rank in range(ranks)
    ]
    batches = [list(loader) for loader in loaders]
    assert [len(b) for b in batches] == [len(loader) for loader in loaders]
    assert [int(i) for b in batches for x, _ in b for i in x] == list(range(examples))


@pytest.mark.parametrize(
    ("sizes", "evaluated", "interval", "words"),
    [
        ([10], {}, 1.0, r"data\.batch_size: 10.*multiples of 4"),
        ([8, 2], {}, 1.0, r"last minibatch.*: 2 examples.*multiples of 4"),
        ([8], {"val": 1}, 1.0, "1 val examples cannot be shared by 2"),
        ([8], {"val": 2}, 11, r"val_check_interval: 11 is more than the 10 batches"),
    ],
)
def test_data_that_a_run_cannot_use_is_refused(sizes, evaluated, interval, words):
    trainer = clock(micro=2, ranks=2)
    trainer.val_check_interval, trainer.check_val_every_n_epoch = interval, 1
    with pytest.raises(UserError, match=words):
        check_loaders(sizes, 5, evaluated, trainer)


def test_a_batch_is_taken_where_the_shard_is_stored():
    """Without a GPU: fake tensors refuse to mix devices as real ones do."""
    with FakeTensorMode():
        gpu = torch.device("cuda:0")
        shard = Shard(torch.zeros(50, 3, 32, 32, dtype=torch.uint8), torch.zeros(50, dtype=torch.int64))
        kept = Subset(shard, torch.arange(40)).stored("device", gpu)
        assert kept.device == gpu
        images, labels = kept.take(torch.arange(10, device=gpu))
        assert PerChannel((0.5,) * 3, (0.2,) * 3)(images).device == labels.device == gpu


def test_whole_is_every_row():
    shard = Shard(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4))
    assert whole(shard).indices.tolist() == [0, 1, 2, 3]
