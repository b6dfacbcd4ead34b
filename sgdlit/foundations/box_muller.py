"""Pairs of normals from pairs of random words (Box & Muller 1958), the same bits on every machine and device.

Logarithm, sine and cosine are polynomials in float64, evaluated in sums, products, quotients and roots, which
IEEE 754 rounds alike everywhere; a library's own functions differ in the last bit. ``native/philox.c``
does the same operations in the same order, and is compiled without fused products and sums. No GPU was at
hand to compare with.

With words a and b in [0, 2³²): u = (a + ½)/2³², r = √(−2 ln u), and (r cos 2πb/2³², r sin 2πb/2³²).
"""

import math

import numpy as np
import torch
from torch import Tensor

# Near-minimax, from the highest power down (mpmath's chebyfit); the error they leave is below 1e-17 relative.
# ln((1+s)/(1−s)) = s (2 + z LOG(z)), z = s², for m = (1+s)/(1−s) from √½ to √2.
LOG = (
    0.14616449685043406,
    0.15331721600556042,
    0.18182889125261723,
    0.2222221113479508,
    0.28571428625975487,
    0.39999999999899505,
    0.666666666666667,
)
# sin t = t + t w SIN(w) and cos t = 1 + w (−½ + w COS(w)), w = t², for |t| up to π/4.
SIN = (
    1.5918129294866608e-10,
    -2.5051131845003624e-08,
    2.755731610255244e-06,
    -0.00019841269836758574,
    0.008333333333330948,
    -0.16666666666666666,
)
COS = (
    -1.1382632425521717e-11,
    2.08761462684032e-09,
    -2.7557317271729793e-07,
    2.480158729876569e-05,
    -0.0013888888888887398,
    0.041666666666666664,
)
TURN = 2.0 * math.pi / 2.0**32
_ROOT_HALF = 0x3FE6A09E667F3BCD  # the bits of √½
_TO_SIGN = 62  # from the bit of 2 to that of the sign


def box_muller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normals, float64, of each pair of words, int64 of any one shape."""
    radius = _root(_log(a.to(torch.float64).add_(0.5)).mul_(-2.0))
    cosine, sine = _turned(b)
    return cosine.mul_(radius), sine.mul_(radius)


def _log(x: Tensor) -> Tensor:
    """ln(x/2³²) for 0 < x < 2³²; x is used up."""
    bits = x.view(torch.int64)
    exponent = (bits - _ROOT_HALF).bitwise_right_shift_(52)
    bits -= exponent << 52  # x = m 2^exponent, m from √½ to √2: x is m now
    s = (x - 1.0).div_(x.add_(1.0))
    z = s * s
    small = _polynomial(LOG, z).mul_(z).add_(2.0).mul_(s)
    return small.add_(exponent.sub_(32).to(torch.float64).mul_(math.log(2.0)))


def _turned(b: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of 2πb/2³²: those of at most an eighth of a turn, exchanged and with signs."""
    quarter = (b + 2**29).bitwise_right_shift_(30)
    t = (b - (quarter << 30)).to(torch.float64).mul_(TURN)
    w = t * t
    sine = _polynomial(SIN, w).mul_(w).mul_(t).add_(t)
    cosine = _polynomial(COS, w).mul_(w).sub_(0.5).mul_(w).add_(1.0)
    bits_of_sine, bits_of_cosine = sine.view(torch.int64), cosine.view(torch.int64)
    exchanged = (bits_of_sine ^ bits_of_cosine).bitwise_and_((quarter & 1).neg_())
    bits_of_sine ^= exchanged ^ (quarter & 2).bitwise_left_shift_(_TO_SIGN)
    bits_of_cosine ^= exchanged ^ (quarter + 1).bitwise_and_(2).bitwise_left_shift_(_TO_SIGN)
    return cosine, sine


def _root(x: Tensor) -> Tensor:
    """√x, rounded correctly; torch's own on a CPU may be MKL's, which is not."""
    if x.device.type == "cpu":
        np.sqrt(x.numpy(), out=x.numpy())
        return x
    return x.sqrt_()


def _polynomial(coefficients: tuple[float, ...], z: Tensor) -> Tensor:
    value = z * coefficients[0]
    for coefficient in coefficients[1:-1]:
        value.add_(coefficient).mul_(z)
    return value.add_(coefficients[-1])
