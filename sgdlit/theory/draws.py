"""Normal numbers for the instances on which theory is computed: a pure function of seed and purpose."""

import numpy as np
import torch

from sgdlit.foundations.philox import derive_key, normal


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A generator of its own for each seed and purpose, for studies that draw much."""
    key = derive_key(seed, f"theory/{purpose}")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([key.lo, key.hi])))


def normal_matrix(seed: int, purpose: str, rows: int, columns: int) -> np.ndarray:
    """Standard normal entries, float64 [rows, columns]."""
    key = derive_key(seed, f"theory/{purpose}")
    return normal(key, torch.arange(rows), columns, dtype=torch.float64).numpy()
