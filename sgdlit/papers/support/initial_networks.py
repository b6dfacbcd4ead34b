"""Networks with the initial parameters that ``fit`` would give them."""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from sgdlit.foundations.generators import kept
from sgdlit.foundations.philox import derive_key

Network = TypeVar("Network", bound=nn.Module)


def initial_network(make: Callable[[], Network], seed: int) -> Network:
    """The network that ``make`` makes in a run of ``fit`` with this ``seed_everything``; the global
    generators are as before."""
    with kept([], derive_key(seed, "initialisation").lo):
        return make()
