"""Random numbers of studies, and of instances on which theory is computed: functions of seed and purpose."""

import numpy as np


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A generator of its own for each seed and purpose, for studies that draw much."""
    from sgdlit.foundations.philox import derive_key

    key = derive_key(seed, f"theory/{purpose}")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([key.lo, key.hi])))


def numbered_generator(seed: int, *purpose: int) -> np.random.Generator:
    """As :func:`generator`, where purposes are numbers: no other seed or purpose shares any draw."""
    return np.random.default_rng(np.random.SeedSequence([seed, *purpose]))


def normal_matrix(seed: int, purpose: str, rows: int, columns: int) -> np.ndarray:
    """Standard normal entries, float64 [rows, columns]."""
    import torch

    from sgdlit.foundations.philox import derive_key, normal

    key = derive_key(seed, f"theory/{purpose}")
    return normal(key, torch.arange(rows), columns, dtype=torch.float64).numpy()
