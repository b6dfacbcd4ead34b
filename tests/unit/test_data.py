"""What holds for data of every kind: a step is a function of (seed, step), whatever the ranks, the pages, the
restarts, and what else is asked for."""

import json
import random

import pytest
import torch
from cases import DATA, FINITE_SETS, STREAMS
from fake_trainer import attach

from sgdlit.data.batches import Batch, Batches, Block
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.streams import StreamData
from sgdlit.foundations.errors import UserError

CPU = torch.device("cpu")
STEPS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(params=DATA)
def make(request, folder):
    """What makes data of one kind."""

    def make(**given) -> KeyedData:
        data = attach(DATA[request.param](folder, **given))
        data.setup()
        return data

    return make


def whole(batches: Batches, step: int) -> Batch:
    return batches.batch(step, slice(0, batches.size(step)))


def straight(data: KeyedData) -> list[Batch]:
    """What the first steps see, one after another."""
    batches = data.batches(CPU)
    return [whole(batches, step) for step in range(STEPS)]


def assert_same(first: Batch, second: Batch):
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_a_step_is_a_function_of_seed_and_step(make):
    expected, jumping = straight(make()), make().batches(CPU)
    for step in random.Random(0).sample(range(STEPS), STEPS):
        assert_same(whole(jumping, step), expected[step])
    other = straight(make(seed=4, **({} if make().itinerary is None else {"order_seed": 5})))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(expected, other, strict=True))


def test_a_part_of_a_step_is_that_part_of_the_whole(make):
    batches, expected = make().batches(CPU), straight(make())
    for step in (0, 5):
        size = batches.size(step)
        assert size == len(expected[step][0]) == len(expected[step][1])
        for part in (slice(0, size // 2), slice(size // 2, size), slice(size - 1, size)):
            assert_same(batches.batch(step, part), (expected[step][0][part], expected[step][1][part]))


@pytest.mark.parametrize(("ranks", "micro"), [(2, 1), (4, 1), (1, 2), (2, 2)])
def test_ranks_and_micro_batches_do_not_change_what_a_step_sees(make, ranks, micro):
    expected = straight(make())
    loaders = [iter(attach(make(), 0, ranks, rank, micro).train_dataloader()) for rank in range(ranks)]
    for step in range(min(STEPS, make().steps_per_epoch)):
        shares = [next(loader) for _ in range(micro) for loader in loaders]
        assert_same(tuple(map(torch.cat, zip(*shares, strict=True))), expected[step])


def test_a_restart_at_any_step_goes_on_bitwise(make):
    expected = straight(make())
    for start in random.Random(1).sample(range(1, STEPS), 3):
        loader = iter(attach(make(), start).train_dataloader())
        for step in range(start, min(STEPS, start + make().steps_per_epoch)):
            assert_same(next(loader), expected[step])


def test_steps_made_together_are_those_made_one_by_one(make):
    expected, together = straight(make()), make().batches(CPU)
    for start, count in ((0, 1), (0, STEPS), (5, 6), (STEPS - 1, 1)):
        step = start
        for inputs, targets in Block(start, count, [together]).pieces(0):
            for batch in zip(inputs, targets, strict=True):
                assert_same(batch, expected[step])
                step += 1
        assert step == start + count
        for k, (inputs, targets) in enumerate(Block(start, count, [together]).steps(slice(0, 1))):
            assert_same((inputs[0], targets[0]), expected[start + k])


def test_runs_side_by_side_see_what_each_sees_alone(make):
    members, alone = [make(seed=0)], [straight(make(seed=seed)) for seed in range(3)]
    for seed in (1, 2):
        members.append(make(seed=seed))
        if members[-1].source == members[0].source:
            members[-1].take_over(members[0])
    batches = [member.batches(CPU) for member in members]
    for step, ahead in ((0, False), (7, True), (1, True), (7, False)):
        inputs, targets = batches[0].across(batches, step, ahead)
        for k in range(3):
            assert_same((inputs[k], targets[k]), alone[k][step])


def test_what_one_holds_serves_another_of_the_same_source(make):
    data_seed = {"data_seed": 7} if isinstance(make(), StreamData) else {}
    one, other = (make(seed=seed, **data_seed) for seed in (0, 1))
    assert one.source == other.source
    other.take_over(one)
    for split in one.evaluation_splits:
        assert one.examples(split, CPU) is other.examples(split, CPU)
    assert make(val_size=8).source != one.source


def test_evaluation_shows_every_example_once_whatever_the_ranks(make):
    data = make()
    assert data.evaluation_splits == ["val", "test"]
    for split in data.evaluation_splits:
        alone = list(data.evaluation_loader(split, 7))
        shared = [
            batch for rank in range(3) for batch in attach(make(), 0, 3, rank).evaluation_loader(split, 5)
        ]
        assert sum(len(targets) for _, targets in alone) == data.size(split)
        for k in range(2):
            assert torch.equal(torch.cat([b[k] for b in alone]), torch.cat([b[k] for b in shared]))


def test_no_evaluated_example_is_trained_on(make):
    data = make(**({} if make().augmentation() is None else {"augment": False}))
    trained = {example.numpy().tobytes() for inputs, _ in straight(data) for example in inputs}
    for split in data.evaluation_splits:
        seen = {x.numpy().tobytes() for inputs, _ in data.evaluation_loader(split) for x in inputs}
        assert seen.isdisjoint(trained)


def test_the_example_to_try_a_network_on_has_the_highest_label(make):
    data = make(**({} if make().augmentation() is None else {"augment": False}))
    inputs, targets = data.example()
    first = straight(data)
    assert inputs.shape == first[0][0][:1].shape
    assert (inputs.dtype, targets.dtype) == (first[0][0].dtype, first[0][1].dtype)
    if not targets.is_floating_point():
        assert targets.max() >= max(labels.max() for _, labels in first)


def test_a_checkpoint_holds_plain_types_and_is_refused_on_other_data(make):
    state = make().state_dict()
    assert json.loads(json.dumps(state)) == state
    make().load_state_dict(state)
    for given in ({"seed": 4}, {"batch_size": 2}):
        with pytest.raises(UserError, match="other data"):
            make(**given).load_state_dict(state)


def test_data_that_ranks_cannot_share_is_refused(make):
    data = attach(make(batch_size=4), ranks=3)
    with pytest.raises(UserError, match=r"data\.batch_size: 4 .* 3 process"):
        data.check(data.trainer)
    data = attach(make(batch_size=4), ranks=2, accumulate=2)
    data.check(data.trainer)


@pytest.mark.parametrize("name", FINITE_SETS)
def test_what_a_finite_set_says_about_itself(name, folder):
    data = attach(FINITE_SETS[name](folder, last_batch="error", batch_size=4, evaluate_train=True))
    data.setup()
    images, labels = data.subsets["train"].take(torch.arange(20))
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert labels.max() < data.num_classes
    assert data.standardise(images).dtype == torch.float32
    assert data.evaluation_splits == ["val", "test", "train_set"]
    epoch = torch.cat([whole(data.batches(CPU), step)[1] for step in range(data.steps_per_epoch)])
    assert torch.equal(epoch.sort().values, labels.sort().values)


@pytest.mark.parametrize("name", STREAMS)
def test_the_finite_form_is_the_beginning_of_the_stream_with_the_same_test_set(name):
    stream, shard = attach(STREAMS[name]()), attach(STREAMS[name](shard_size=24))
    first, visited = straight(stream)[:3], straight(shard)[:6]
    if stream.augmentation() is None:
        examples = torch.unique(torch.cat([inputs for inputs, _ in first]).flatten(1), dim=0)
        for epoch in (visited[:3], visited[3:]):
            again = torch.cat([inputs for inputs, _ in epoch]).flatten(1)
            assert torch.equal(torch.unique(again, dim=0), examples)
    assert not torch.equal(visited[0][0], visited[3][0])  # another order
    for one, other in zip(stream.evaluation_loader("test"), shard.evaluation_loader("test"), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("name", STREAMS)
def test_seeds_and_splits_of_a_stream_share_no_example(name):
    """Inputs of 70 signs or of real numbers: among a few hundred two are equal only by construction."""
    drawn = [
        inputs
        for seed in (0, 1)
        for split in ("train", "val", "test")
        for inputs in [STREAMS[name](seed=seed).draw(split, torch.arange(40))[0]]
    ]
    examples = torch.cat(drawn).flatten(1)
    examples = examples[examples.ne(0).any(1)]  # as sparse ones and the mean of gradient noise may be
    assert len(torch.unique(examples, dim=0)) == len(examples) >= 80


@pytest.mark.parametrize("name", STREAMS)
def test_pages_and_repeats_of_a_stream_do_not_change_its_minibatches(name):
    expected = straight(STREAMS[name]())
    paged = straight(STREAMS[name](page_minibatches=5))
    thrice = straight(STREAMS[name](repeats=3))
    for step in range(STEPS):
        assert_same(paged[step], expected[step])
        assert_same(thrice[step], expected[step // 3])


@pytest.mark.parametrize("name", STREAMS)
def test_a_seed_of_the_data_leaves_only_the_order_to_the_seed(name):
    one, other = (attach(STREAMS[name](seed=seed, data_seed=9, shard_size=24)) for seed in (0, 1))
    index = torch.arange(24)
    assert one.source == other.source == STREAMS[name](seed=9).source
    assert_same(one.draw("train", index), STREAMS[name](seed=9).draw("train", index))
    assert not torch.equal(one.itinerary.indices(0), other.itinerary.indices(0))


def test_members_with_and_without_augmentation_stand_side_by_side(folder):
    makers = [FINITE_SETS["Shapes train_size=40 test_size=12"](folder, augment=on) for on in (True, False)]
    for data in makers:
        data.setup()
    makers[1].take_over(makers[0])
    members = [data.batches(CPU) for data in makers]
    for chosen in (members, members[::-1]):
        inputs, _ = chosen[0].across(chosen, 1)
        for k, member in enumerate(chosen):
            assert torch.equal(inputs[k], whole(member, 1)[0])
