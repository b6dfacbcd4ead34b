"""Random numbers as a pure function of (seed, purpose, index): the counter-based generator Philox4x32-10.

No state, so nothing can be lost at a restart, and sample ``i`` does not depend on how many samples are made
per call, on which rank, or on which device. Integers are exact everywhere; normals are computed in float64
and rounded, so that devices whose ``log`` differs in the last bit still agree in float32.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011); the Random123 known answers
are the test.
"""

import hashlib
import math
from typing import NamedTuple

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_ROUNDS = 10


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
    for _ in range(_ROUNDS):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def words(key: Key, index: Tensor, count: int, stream: int | Tensor = 0) -> Tensor:
    """``count`` random 32-bit words for each index.

    Args:
        key: from :func:`derive_key`.
        index: int64, any shape, values >= 0: which samples.
        count: words per sample.
        stream: a further number in [0, 2³²) that separates uses of one key, or int64 numbers of a shape that
            broadcasts with that of the indices.

    Returns:
        int64 of shape ``index.shape + (count,)``, broadcast with ``stream``; values in [0, 2³²).
    """
    block = torch.arange(-(-count // 4), device=index.device)
    lo, hi = (index & _MASK).unsqueeze(-1), (index >> 32).unsqueeze(-1)
    stream = stream.unsqueeze(-1) if isinstance(stream, Tensor) else torch.full_like(block, stream)
    out = philox4x32((block, lo, hi, stream), key)
    return torch.stack(torch.broadcast_tensors(*out), -1).flatten(-2)[..., :count]


def uniform(
    key: Key, index: Tensor, count: int, stream: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Uniform numbers in [0, 1), shape ``index.shape + (count,)``; 24 random bits (32 in float64)."""
    drawn = words(key, index, count, stream)
    if dtype == torch.float64:
        return drawn.to(dtype) / 2.0**32
    return (drawn >> 8).to(dtype) / 2.0**24


def integers(key: Key, index: Tensor, count: int, high: int, stream: int | Tensor = 0) -> Tensor:
    """Integers in [0, high), int64, shape ``index.shape + (count,)``; the bias is below high / 2³²."""
    return (words(key, index, count, stream) * high) >> 32


def normal(
    key: Key, index: Tensor, count: int, stream: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Standard normals by Box–Muller, shape ``index.shape + (count,)``; a longer row begins as a shorter."""
    drawn = words(key, index, count + count % 2, stream).unflatten(-1, (-1, 2)).to(torch.float64)
    radius = torch.sqrt(-2.0 * torch.log((drawn[..., 0] + 0.5) / 2.0**32))
    angle = drawn[..., 1] * (2.0 * math.pi / 2.0**32)
    pair = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), -1)
    return pair.flatten(-2)[..., :count].to(dtype)


def permutation(key: Key, n: int, stream: int | Tensor = 0, device: torch.device | str = "cpu") -> Tensor:
    """A random permutation of 0 … n−1, by sorting keyed 63-bit numbers; equal on every device.

    Returns:
        int64 ``[n]``; ``[E, n]``, one for each, where ``stream`` is a tensor ``[E]``.
    """
    stream = stream.unsqueeze(-1) if isinstance(stream, Tensor) else stream
    pair = words(key, torch.arange(n, device=device), 2, stream)
    return torch.argsort((pair[..., 0] << 31) ^ (pair[..., 1] >> 1), dim=-1, stable=True)
