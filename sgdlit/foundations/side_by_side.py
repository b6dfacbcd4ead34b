"""Work on several runs at the same time, on the cores of a CPU: one thread for each run."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class SideBySide:
    """Calls a function on each of some things; on a CPU with several cores, on threads.

    Args:
        things: how many there are.
        device: where their tensors are.
        context: what the work enters for itself. It is entered around all of the work too: where it sets
            something of the whole process, such as the default dtype, threads that leave it while others are
            in it would restore it wrongly.
    """

    def __init__(
        self,
        things: int,
        device: torch.device,
        context: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self._context = context
        workers = min(things, torch.get_num_threads()) if device.type == "cpu" else 1
        self._pool = None
        if workers > 1:
            self._pool = ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1))

    def map(self, work: Callable[[T], R], things: Sequence[T], at_once: bool = True) -> list[R]:
        """``[work(thing) for thing in things]``; gradients are recorded where the caller records them.

        Threads that do little but hold Python's lock slow each other down: where ``at_once`` is False, one of
        them does it all. What is computed is the same.
        """
        if self._pool is None or len(things) == 1:
            return [work(thing) for thing in things]
        recorded = torch.is_grad_enabled()

        def one(thing: T) -> R:
            with torch.set_grad_enabled(recorded):
                return work(thing)

        with self._context():
            if not at_once:
                return self._pool.submit(lambda: [one(thing) for thing in things]).result()
            return list(self._pool.map(one, things))
