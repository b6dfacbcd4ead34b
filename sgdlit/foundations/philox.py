"""Random numbers as a pure function of (seed, purpose, index): the counter-based generator Philox4x32-10.

No state, so nothing can be lost at a restart, and sample ``i`` does not depend on how many samples are made
per call, on which rank, or on which device. Integers are exact everywhere; so are normals, which are computed
in float64 by :mod:`sgdlit.foundations.box_muller`.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011); the Random123 known answers
are the test.
"""

import hashlib
import math
from ctypes import CDLL, c_double, c_int, c_int64, c_void_p
from typing import NamedTuple

import torch
from torch import Tensor

from sgdlit.foundations import native
from sgdlit.foundations.box_muller import COS, LOG, SIN, TURN, box_muller

_MASK = 0xFFFFFFFF
_ROUNDS = 10
_WORTH_A_CALL = 4096  # words that are worth leaving Python for
_POLYNOMIALS = (c_double * (len(LOG) + len(SIN) + len(COS)))(*LOG, *SIN, *COS)


class Key(NamedTuple):
    """A Philox key: two 32-bit words."""

    lo: int
    hi: int


def derive_key(seed: int, purpose: str) -> Key:
    """The key of one purpose of one seed, by hashing: no arithmetic on seeds can make two keys meet."""
    digest = hashlib.blake2b(f"{purpose}|{int(seed)}".encode(), digest_size=8).digest()
    return Key(int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little"))


def philox4x32(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: Key) -> tuple[Tensor, ...]:
    """Ten Philox rounds on four int64 tensors that hold 32-bit words (products wrap mod 2⁶⁴: exact)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):  # c1 and c3 keep their upper halves, which the masks of c0 and c2 take away
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c2 = (
            ((p1 >> 32) ^ c1).bitwise_xor_(k0).bitwise_and_(_MASK),
            ((p0 >> 32) ^ c3).bitwise_xor_(k1).bitwise_and_(_MASK),
        )
        c1, c3 = p1, p0
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1.bitwise_and_(_MASK), c2, c3.bitwise_and_(_MASK)


def words(key: Key, index: Tensor, count: int, substream: int | Tensor = 0) -> Tensor:
    """``count`` random 32-bit words for each index.

    Args:
        key: from :func:`derive_key`.
        index: int64, any shape, values >= 0: which samples.
        count: words per sample.
        substream: a further number in [0, 2³²) that separates uses of one key, or int64 numbers of a shape
            that broadcasts with that of the indices.

    Returns:
        int64 of shape ``index.shape + (count,)``, broadcast with ``substream``; values in [0, 2³²).
    """
    compiled = _native(index, substream, count)
    if compiled is not None:
        library, index, substreams = compiled
        out = torch.empty(*index.shape, count, dtype=torch.int64)
        library.philox_words(
            *map(_pointer, (out, index, substreams)), *map(c_int64, (index.numel(), count, *key))
        )
        return out
    return torch.stack(_blocks(key, index, count, substream), -1).flatten(-2)[..., :count]


def _blocks(key: Key, index: Tensor, count: int, substream: int | Tensor) -> tuple[Tensor, ...]:
    """The words of each index in tensor operations, four at a time: of each block its first, second, third
    and fourth, all ``index.shape + (blocks,)``."""
    block = torch.arange(-(-count // 4), device=index.device)
    lo, hi = (index & _MASK).unsqueeze(-1), (index >> 32).unsqueeze(-1)
    substream = (
        substream.unsqueeze(-1) if isinstance(substream, Tensor) else torch.full_like(block, substream)
    )
    return torch.broadcast_tensors(*philox4x32((block, lo, hi, substream), key))


def _native(index: Tensor, substream: int | Tensor, count: int) -> tuple[CDLL, Tensor, Tensor] | None:
    """The compiled generator, and indices and substreams for it; None where tensor operations do as well."""
    if index.device.type != "cpu" or index.numel() * count < _WORTH_A_CALL:
        return None
    try:
        library = native.library("philox")
    except (native.NotBuilt, OSError):
        return None
    substreams = substream if isinstance(substream, Tensor) else torch.tensor(substream)
    index, substreams = torch.broadcast_tensors(index, substreams)
    return library, index.contiguous(), substreams.contiguous()


def _pointer(tensor: Tensor) -> c_void_p:
    return c_void_p(tensor.data_ptr())


def uniform(
    key: Key, index: Tensor, count: int, substream: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Uniform numbers in [0, 1), shape ``index.shape + (count,)``; 24 random bits (32 in float64)."""
    drawn = words(key, index, count, substream)
    if dtype == torch.float64:
        return drawn.to(dtype) / 2.0**32
    return (drawn >> 8).to(dtype) / 2.0**24


def integers(key: Key, index: Tensor, count: int, high: int, substream: int | Tensor = 0) -> Tensor:
    """Integers in [0, high), int64, shape ``index.shape + (count,)``; the bias is below high / 2³²."""
    return (words(key, index, count, substream) * high) >> 32


def normal(
    key: Key, index: Tensor, count: int, substream: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Standard normals by Box–Muller, shape ``index.shape + (count,)``; more numbers begin as fewer."""
    compiled = _native(index, substream, count)
    if compiled is not None:
        library, index, substreams = compiled
        out = torch.empty(*index.shape, count, dtype=dtype if dtype == torch.float32 else torch.float64)
        pointers, numbers = map(_pointer, (index, substreams)), map(c_int64, (index.numel(), count, *key))
        single = c_int(out.dtype == torch.float32)
        constants = _POLYNOMIALS, c_double(TURN), c_double(math.log(2.0))
        library.philox_normals(_pointer(out), single, *pointers, *numbers, *constants)
        return out.to(dtype)
    first, second, third, fourth = _blocks(key, index, count, substream)
    out = torch.empty(*first.shape, 4, dtype=dtype, device=index.device)
    out[..., 0], out[..., 1] = box_muller(first, second)
    out[..., 2], out[..., 3] = box_muller(third, fourth)
    return out.flatten(-2)[..., :count]


def permutation(key: Key, n: int, substream: int | Tensor = 0, device: torch.device | str = "cpu") -> Tensor:
    """A random permutation of 0 … n−1, by sorting keyed 63-bit numbers; equal on every device.

    Returns:
        int64 ``[n]``; ``[E, n]``, one for each, where ``substream`` is a tensor ``[E]``.
    """
    substream = substream.unsqueeze(-1) if isinstance(substream, Tensor) else substream
    pair = words(key, torch.arange(n, device=device), 2, substream)
    return torch.argsort((pair[..., 0] << 31) ^ (pair[..., 1] >> 1), dim=-1, stable=True)
