"""Networks with the initial parameters that ``fit`` would give them."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from sgdlit.foundations.philox import derive_key

Network = TypeVar("Network", bound=nn.Module)


def initial_network(make: Callable[[], Network], seed: int) -> Network:
    """The network that ``make`` makes in a run of ``fit`` with this ``seed_everything``; torch's global
    generator is as before."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_key(seed, "initialisation").lo)
        return make()
