"""The generators that a network may draw from, torch's, Python's and numpy's: seeded, then as before."""

import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_WORD = 2**32 - 1
ONE_AT_A_TIME = threading.RLock()
"""Held by a thread while the generators, which all threads share, are not as the others know them."""


def torch_generators(devices: Iterable[torch.device]) -> list[torch.Generator]:
    """The generators from which layers on some devices draw: that of the CPU always."""
    found = {device.index or 0 for device in devices if device.type == "cuda"}
    return [torch.default_generator, *(torch.cuda.default_generators[index] for index in sorted(found))]


def seed_network(seed: int, device: torch.device) -> None:
    """Let what a network on a device draws begin with a seed. ``torch.manual_seed`` does the same for all
    devices, and takes longer where CUDA waits to be used: it keeps the stack of each call."""
    for generator in torch_generators([device]):
        generator.manual_seed(seed)


@contextmanager
def kept(devices: Iterable[torch.device], seed: int | None = None) -> Iterator[None]:
    """Inside, draw what you like; afterwards the generators are as they were.

    Args:
        devices: on which tensors are.
        seed: the generators begin with it inside; None lets them go on.
    """
    own = torch_generators(devices)
    with ONE_AT_A_TIME:
        states, of_python = [generator.get_state() for generator in own], random.getstate()
        of_numpy = np.random.get_state()
        if seed is not None:
            random.seed(seed)
            np.random.seed([seed & _WORD, seed >> 32 & _WORD])
            for generator in own:
                generator.manual_seed(seed)
    try:
        yield
    finally:
        with ONE_AT_A_TIME:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
            for generator, state in zip(own, states, strict=True):
                generator.set_state(state)


def snapshot(devices: Iterable[torch.device]) -> tuple[Any, ...]:
    """What the generators are like, to be compared: equal as long as nothing is drawn."""
    _, words, *rest = np.random.get_state(legacy=True)
    of_torch = (g.get_state().numpy().tobytes() for g in torch_generators(devices))
    return *of_torch, random.getstate(), np.asarray(words).tobytes(), *rest
