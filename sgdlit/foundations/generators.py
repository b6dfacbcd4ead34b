"""The generators that a network may draw from, torch's and Python's: seeded for a while, then as before."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def torch_generators(devices: Iterable[torch.device]) -> list[torch.Generator]:
    """The generators from which layers on some devices draw: that of the CPU always."""
    found = {device.index or 0 for device in devices if device.type == "cuda"}
    return [torch.default_generator, *(torch.cuda.default_generators[index] for index in sorted(found))]


@contextmanager
def kept(devices: Iterable[torch.device], seed: int | None = None) -> Iterator[None]:
    """Inside, draw what you like; afterwards the generators are as they were.

    Args:
        devices: on which tensors are.
        seed: the generators begin with it inside; None lets them go on.
    """
    own = torch_generators(devices)
    states, of_python = [generator.get_state() for generator in own], random.getstate()
    if seed is not None:
        random.seed(seed)
        for generator in own:
            generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(of_python)
        for generator, state in zip(own, states, strict=True):
            generator.set_state(state)


def snapshot(devices: Iterable[torch.device]) -> tuple[Any, ...]:
    """What the generators are like, to be compared: equal as long as nothing is drawn."""
    return (*(g.get_state().numpy().tobytes() for g in torch_generators(devices)), random.getstate())
