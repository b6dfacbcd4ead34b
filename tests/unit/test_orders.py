"""What each order visits, as properties over sizes, seeds and repeats."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
import torch
from cases import ORDERS
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdlit.data.grab import GraB, balance, reordered
from sgdlit.data.orders import (
    FixedList,
    ForwardThenReversed,
    Itinerary,
    Order,
    RandomReshuffling,
    SingleShuffle,
    WithReplacement,
)
from sgdlit.data.poisson import Poisson, PoissonItinerary
from sgdlit.data.stratified import Stratified
from sgdlit.foundations.errors import UserError

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 6))  # B, batches
few = settings(max_examples=30, deadline=None)


def epoch(itinerary, e):
    """The rows of the minibatches of epoch ``e``, one per visit."""
    steps = range(e * itinerary.steps_per_epoch, (e + 1) * itinerary.steps_per_epoch, itinerary.repeats)
    return [itinerary.indices(step).tolist() for step in steps]


@pytest.mark.parametrize("order", [RandomReshuffling, SingleShuffle, ForwardThenReversed])
@given(sizes=SIZES, seed=st.integers(0, 2**40), e=st.integers(0, 5), extra=st.integers(0, 3))
@few
def test_each_example_exactly_once_per_epoch(order, sizes, seed, e, extra):
    batch_size, batches = sizes
    n = batch_size * batches + extra
    itinerary = Itinerary(order(), n, batch_size, last_batch="short", seed=seed)
    assert sorted(chain(*epoch(itinerary, e))) == list(range(n))


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@given(sizes=SIZES, seed=st.integers(0, 2**40), steps=st.permutations(range(12)), repeats=st.integers(1, 3))
@few
def test_a_step_does_not_depend_on_what_was_asked_before(order, sizes, seed, steps, repeats):
    n = 4 * sizes[0] * sizes[1]  # the length of a small fixed list, too, is 4
    batch_size = 4 if order().length(n) == 4 else sizes[0]
    straight, jumping = (Itinerary(order(), n, batch_size, repeats, seed=seed) for _ in range(2))
    expected = [straight.indices(step).tolist() for step in range(12)]
    assert {step: jumping.indices(step).tolist() for step in steps} == dict(enumerate(expected))


@given(sizes=SIZES, repeats=st.integers(1, 4))
@few
def test_repeats_show_every_minibatch_n_times_in_a_row(sizes, repeats):
    n = sizes[0] * sizes[1]
    once, repeated = (
        Itinerary(RandomReshuffling(), n, sizes[0]),
        Itinerary(RandomReshuffling(), n, sizes[0], repeats),
    )
    assert repeated.steps_per_epoch == repeats * once.steps_per_epoch
    for step in range(2 * repeated.steps_per_epoch):
        assert torch.equal(repeated.indices(step), once.indices(step // repeats))


@given(sizes=SIZES, extra=st.integers(0, 3), seed=st.integers(0, 100))
@few
def test_forward_then_reversed_mirrors_the_minibatches(sizes, extra, seed):
    n = sizes[0] * sizes[1] + extra
    itinerary = Itinerary(ForwardThenReversed(), n, sizes[0], last_batch="short", seed=seed)
    assert epoch(itinerary, 1) == epoch(itinerary, 0)[::-1]
    assert epoch(itinerary, 3) == epoch(itinerary, 2)[::-1]


def test_mirrored_minibatches_are_augmented_alike():
    itinerary = Itinerary(ForwardThenReversed(), 12, 3, repeats=2)
    numbers = [itinerary.minibatch(step) for step in range(4 * itinerary.steps_per_epoch)]
    assert numbers[:8] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert numbers[8:16] == numbers[:8][::-1]
    assert set(numbers[16:]) == {4, 5, 6, 7}


def test_single_shuffle_repeats_and_reshuffling_does_not():
    single, again = (Itinerary(order(), 60, 10) for order in (SingleShuffle, RandomReshuffling))
    assert epoch(single, 0) == epoch(single, 4)
    assert epoch(again, 0) != epoch(again, 1)


def test_with_replacement_draws_independently():
    itinerary = Itinerary(WithReplacement(), 50, 10)
    drawn = torch.bincount(torch.tensor([epoch(itinerary, e) for e in range(400)]).flatten(), minlength=50)
    assert (drawn - 400).abs().max() < 5 * 20
    assert any(len(set(chain(*epoch(itinerary, e)))) < 50 for e in range(3))


def test_fixed_list_from_numbers_and_from_a_file(tmp_path):
    rows = [3, 1, 1, 0]
    (tmp_path / "rows.txt").write_text("3\n1\n1\n0\n")
    for order in (FixedList(rows), FixedList(str(tmp_path / "rows.txt"))):
        itinerary = Itinerary(order, 5, 2)
        assert [epoch(itinerary, e) for e in (0, 3)] == [[[3, 1], [1, 0]]] * 2


@given(seeds=st.lists(st.integers(0, 2**48), min_size=2, max_size=2, unique=True), e=st.integers(0, 20))
@few
def test_two_seeds_share_no_epoch(seeds, e):
    """Added seeds would: run s at epoch e+1 would be run s+1 at epoch e."""
    first, second = (Itinerary(RandomReshuffling(), 100, 10, seed=seed) for seed in seeds)
    own = [epoch(first, k) for k in (e, e + 1)]
    assert not any(epoch(second, k) in own for k in (e, e + 1, e + 2))


def test_last_batch_is_the_users_choice():
    with pytest.raises(UserError, match=r"data\.batch_size: 3 does not divide the 10"):
        Itinerary(RandomReshuffling(), 10, 3)
    short, drop = (Itinerary(RandomReshuffling(), 10, 3, last_batch=choice) for choice in ("short", "drop"))
    assert [len(b) for b in epoch(short, 0)] == [short.size(k) for k in range(4)] == [3, 3, 3, 1]
    assert [len(b) for b in epoch(drop, 0)] == [drop.size(k) for k in range(3)] == [3, 3, 3]


def test_a_short_minibatch_is_known_by_size_in_every_position():
    itinerary = Itinerary(ForwardThenReversed(), 7, 3, last_batch="short", repeats=2)
    for step in range(4 * itinerary.steps_per_epoch):
        assert itinerary.size(step) == len(itinerary.indices(step))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Itinerary(RandomReshuffling(), 10, 11), "batch_size: 11.*allowed: 1 to 10"),
        (lambda: Itinerary(RandomReshuffling(), 10, 0), "batch_size: 0"),
        (lambda: Itinerary(RandomReshuffling(), 10, 5, repeats=0), "repeats: 0"),
        (lambda: FixedList([]), "empty"),
        (lambda: FixedList("no/such/file"), "cannot read"),
        (
            lambda: Itinerary(FixedList([0, 10]), 10, 2).indices(0),
            "example 10 does not exist; allowed: 0 to 9",
        ),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_threads_may_share_an_itinerary():
    """As members of an ensemble with the same data do; a page belongs to whoever asked for it."""

    class EpochNumbers(Order):  # known from here on only: messages of other tests offer all orders there are
        """Every row is the number of its epoch; other threads run while it is made."""

        def indices(self, epochs, examples, key):
            time.sleep(0)
            return epochs.unsqueeze(1).expand(-1, examples)

    itinerary = Itinerary(EpochNumbers(), 2**13, 2**13)

    def ask(epoch: int) -> bool:
        return bool((itinerary.indices(epoch) == epoch).all())

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            assert all(pool.map(ask, [k % 7 for k in range(8000)]))
    finally:
        sys.setswitchinterval(before)


# Orders that look at more than the step


def test_stratified_minibatches_see_every_class_equally_often():
    labels = torch.tensor([7] * 3 + [2] * 60 + [5] * 9)
    itinerary = Itinerary(Stratified(), 72, 6, seed=4, labels=lambda: labels)
    drawn = [labels[itinerary.indices(step)].bincount(minlength=8)[[2, 5, 7]].tolist() for step in range(40)]
    assert drawn == [[2, 2, 2]] * 40
    seen = torch.cat([itinerary.indices(step) for step in range(1200)])
    counts = seen.bincount(minlength=72).double()
    for label in (2, 5, 7):
        own = counts[labels == label]
        expected = 2400 / len(own)
        assert (own - expected).abs().max() < 5 * expected**0.5
    jumping = Itinerary(Stratified(), 72, 6, seed=4, labels=lambda: labels)
    assert torch.equal(jumping.indices(1100), itinerary.indices(1100))


def test_poisson_minibatches_hold_each_example_with_its_probability():
    itinerary = PoissonItinerary(Poisson(), 400, 40, last_batch="drop", seed=1)
    steps = 3000
    sets = [itinerary.indices(step) for step in range(steps)]
    sizes = torch.tensor([len(own) for own in sets]).double()
    assert itinerary.steps_per_epoch == 10
    assert abs(float(sizes.mean()) - 40) < 5 * (36 / steps) ** 0.5
    assert float(sizes.var()) == pytest.approx(36, rel=5 * (2 / steps) ** 0.5)
    counts = torch.cat(sets).bincount(minlength=400).double()
    assert (counts - 300).abs().max() < 5 * 270**0.5
    assert all(len(own.unique()) == len(own) == itinerary.size(step) for step, own in enumerate(sets[:50]))
    assert torch.equal(PoissonItinerary(Poisson(), 400, 40, last_batch="drop", seed=1).indices(77), sets[77])
    repeated = PoissonItinerary(Poisson(), 400, 40, repeats=2, last_batch="drop", seed=1)
    assert torch.equal(repeated.indices(154), sets[77])
    assert torch.equal(repeated.indices(155), sets[77])


def test_what_orders_that_look_at_more_cannot_do():
    with pytest.raises(UserError, match="GraB looks at more than the step"):
        ForwardThenReversed(GraB())
    with pytest.raises(UserError, match=r"last_batch: drop"):
        Itinerary(GraB(), 10, 4, last_batch="drop")
    with pytest.raises(UserError, match=r"batch_size: 31 .*allowed with Poisson: 32"):
        PoissonItinerary(Poisson(), 400, 31, last_batch="drop")
    with pytest.raises(UserError, match="needs classes"):
        Itinerary(Stratified(), 8, 2, labels=lambda: torch.rand(8)).indices(0)


def test_balanced_signs_keep_prefix_sums_small():
    """Of centred vectors: GraB's orders against the mean of random ones, whose sums grow as √n."""
    vectors = torch.randn(400, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    vectors -= vectors.mean(0)

    def largest(order):
        return float(vectors[order].cumsum(0).norm(dim=1).max())

    generator = torch.Generator().manual_seed(1)
    order = torch.randperm(400, generator=generator)
    random = sum(largest(torch.randperm(400, generator=generator)) for _ in range(20)) / 20
    for _ in range(10):
        prefix, plus = torch.zeros(6, dtype=torch.float64), []
        for vector in vectors[order]:
            sign, prefix = balance(prefix, vector)
            plus.append(sign)
        order = reordered(order, torch.stack(plus))
    assert sorted(order.tolist()) == list(range(400))
    assert largest(order) < random / 3
