"""Keep freed memory instead of giving it back to the system: for training on the CPU.

Activations and gradients are large blocks that glibc maps and unmaps at every step, and the page faults then
cost more than the arithmetic saves. ``scripts/bench.py`` measures both ways (``--malloc default``).
"""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # mallopt's parameters, from malloc.h


def keep_freed_memory() -> None:
    """From now on, until the process ends; does nothing where the C library is not glibc."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_TOP_PAD, 1 << 28)
