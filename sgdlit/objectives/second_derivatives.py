"""Forms of layers that have a second derivative: attention's plain form, recurrence without oneDNN and cuDNN.

What is faster, flash attention and the recurrent layers of these libraries, can be differentiated once only.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class _OfTheProcess:
    """A context that sets something of the whole process, entered once however many threads are in it."""

    def __init__(self, make: Callable[[], AbstractContextManager]) -> None:
        self._make, self._lock, self._inside, self._stack = make, threading.Lock(), 0, ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._stack.enter_context(self._make())
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._stack.close()


@contextmanager
def _plain_recurrence() -> Iterator[None]:
    before, *_ = torch.backends.mkldnn.set_flags(False)
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mkldnn.set_flags(before)


plain_attention = _OfTheProcess(lambda: sdpa_kernel(SDPBackend.MATH))
"""Inside, attention is computed by single operations, which can be differentiated twice and vectorised."""

_recurrence = _OfTheProcess(_plain_recurrence)


@contextmanager
def second_derivatives(network: nn.Module | None = None) -> Iterator[None]:
    """Inside, what a network computes has a second derivative as far as torch knows one.

    Args:
        network: whose layers are looked at for recurrent ones; None where there are none.
    """
    with ExitStack() as entered:
        entered.enter_context(plain_attention())
        if network is not None and any(isinstance(module, nn.RNNBase) for module in network.modules()):
            entered.enter_context(_recurrence())
        yield
