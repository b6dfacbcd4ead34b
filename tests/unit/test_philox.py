"""The keyed generator against its published known answers, and its independence of how it is called."""

import mpmath
import pytest
import torch

from sgdlit.foundations import native, philox
from sgdlit.foundations.box_muller import box_muller
from sgdlit.foundations.philox import (
    Key,
    derive_key,
    integers,
    normal,
    permutation,
    philox4x32,
    uniform,
    words,
)

FULL = 0xFFFFFFFF

# Random123 1.14, tests/kat_vectors: philox4x32, 10 rounds.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((FULL,) * 4, (FULL, FULL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    drawn = philox4x32(tuple(torch.tensor(c) for c in counter), Key(*key))
    assert tuple(int(word) for word in drawn) == answer


@pytest.mark.parametrize("draw", [words, uniform, normal])
def test_a_sample_depends_on_its_index_alone(draw):
    key = derive_key(3, "test")
    whole = draw(key, torch.arange(1000), 6)
    scattered = torch.tensor([999, 0, 500, 500])
    assert torch.equal(draw(key, scattered, 6), whole[scattered])
    assert torch.equal(draw(key, torch.arange(1000), 4), whole[:, :4])


@pytest.mark.skipif(native.compiler() is None, reason="no C compiler on this machine")
@pytest.mark.parametrize(("count", "substream"), [(1, 0), (7, 5), (64, 2**31 + 1), (513, 0)])
def test_the_compiled_generator_gives_the_same_bits(count, substream, monkeypatch):
    key = derive_key(3, "test")
    index = torch.arange(2**33 - 40, 2**33 + 60).view(4, 25)
    substreams = torch.arange(4).view(4, 1) + substream
    drawn = []
    for worth in (1, 2**60):
        monkeypatch.setattr(philox, "_WORTH_A_CALL", worth)
        assert (philox._native(index, substream, count) is None) == (worth > 1)
        drawn.append(
            [
                words(key, index, count, substream),
                words(key, index, count, substreams),
                normal(key, index, count, substream, torch.float64),
                normal(key, index, count, substream),
            ]
        )
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_indices_beyond_32_bits_differ():
    key = derive_key(0, "test")
    low, high = torch.tensor([7]), torch.tensor([7 + 2**32])
    assert not torch.equal(words(key, low, 4), words(key, high, 4))


def test_seeds_and_purposes_share_no_words():
    index = torch.arange(2000)
    keys = [derive_key(seed, purpose) for seed in (0, 1, 2**32, 2**32 + 1) for purpose in ("a", "b")]
    drawn = torch.stack([words(key, index, 2) for key in keys]).flatten(0, 1)
    assert len(torch.unique(drawn, dim=0)) == len(drawn)


def test_moments_within_five_standard_errors():
    key, n = derive_key(1, "moments"), 200_000
    z = normal(key, torch.arange(n), 1, dtype=torch.float64).flatten()
    u = uniform(key, torch.arange(n), 1, substream=1, dtype=torch.float64).flatten()
    assert abs(z.mean()) < 5 / n**0.5
    assert abs(z.square().mean() - 1) < 5 * (2 / n) ** 0.5
    assert abs(z.pow(4).mean() - 3) < 5 * (96 / n) ** 0.5
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    assert 0 <= u.min() < u.max() < 1


def test_integers_cover_their_range_evenly():
    counts = torch.bincount(integers(derive_key(0, "dice"), torch.arange(60_000), 1, 6).flatten())
    assert len(counts) == 6
    assert (counts - 10_000).abs().max() < 5 * (60_000 * 5 / 36) ** 0.5


def test_permutation_visits_each_once_and_differs_between_substreams():
    key = derive_key(0, "order")
    first, second = permutation(key, 1000), permutation(key, 1000, substream=1)
    assert torch.equal(first.sort().values, torch.arange(1000))
    assert not torch.equal(first, second)


def test_normals_are_those_of_the_formula_to_a_few_last_bits():
    """Against Box–Muller in 40 digits, at the ends of the range of words and each eighth of a turn."""
    eighths = [k * 2**29 + near for k in range(8) for near in (0, 1, 2**29 - 1)]
    drawn = words(derive_key(0, "formula"), torch.arange(100), 2)
    a = torch.cat((torch.tensor([0, 1, 2**31, FULL] * 6), drawn[:, 0]))
    b = torch.cat((torch.tensor(eighths), drawn[:, 1]))
    found = torch.stack(box_muller(a, b)).tolist()
    with mpmath.workdps(40):
        for word, angle, cosine, sine in zip(a.tolist(), b.tolist(), *found, strict=True):
            radius = mpmath.sqrt(-2 * mpmath.log((word + mpmath.mpf(0.5)) / 2**32))
            for one, part in ((cosine, mpmath.cospi), (sine, mpmath.sinpi)):
                exact = radius * part(mpmath.mpf(angle) / 2**31)
                assert abs(one - exact) <= 5e-16 * abs(exact)
