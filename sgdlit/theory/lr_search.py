"""The search for the best learning rates and schedules, every family of optimizers in a process of its own.

numpy's calls on some thousand numbers take microseconds: threads would spend as long handing over the
interpreter. A small search is done before a process has started, and stays in this one.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from sgdlit.foundations.threads import usable_cores
from sgdlit.theory.first_crossing import Best, best_constant_lr
from sgdlit.theory.noisy_quadratic import NoisyQuadratic
from sgdlit.theory.optimizers import Optimizer
from sgdlit.theory.schedules import Schedule, best_schedules

Families = Mapping[str, Sequence[Optimizer]]
Found = tuple[dict[str, list[Best | None]], list[Schedule | None]]
Progress = Callable[[str, int, int], None]

_SMALL = 1_000_000  # directions times rates
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        batch_sizes: B, each with a best of its own.
        target: the risk to reach.
        points, decades: of the grid of learning rates, see :func:`sgdlit.theory.first_crossing.lr_grid`.
        pieces: of the schedules.
    """

    batch_sizes: Sequence[float]
    target: float
    points: int = 100
    decades: float = 9.0
    pieces: int = 10


class _Tally:
    """Counts what is done here, and shows it with what other processes have done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.here = progress, total, 0
        self.elsewhere: Any = None  # a shared number

    def __call__(self) -> None:
        self.here += 1
        self.show()

    def show(self) -> None:
        done = self.here + (self.elsewhere.value if self.elsewhere else 0)
        self.progress("learning rates", done, self.total)


class _GivenUp(Exception):
    """What ends a worker whose result is no longer wanted."""


def best_lrs_and_schedules(
    model: NoisyQuadratic, families: Families, plain: str, o: Search, progress: Progress
) -> Found:
    """The best constant rates of each family, and a schedule for each batch size.

    Args:
        model: the noisy quadratic.
        families: optimizers that share a curve, by its name; the costliest first.
        plain: the family from whose best rates the schedules start.
        o: what is searched.
        progress: told of optimizers' rates and schedules that are done.
    """
    rates = sum(map(len, families.values())) * o.points
    tally = _Tally(progress, rates + len(o.batch_sizes))
    if rates * len(model.curvature) > _SMALL:
        return _in_processes(model, families, plain, o, tally)
    best = {name: _constant(model, family, o, tally) for name, family in families.items()}
    return best, best_schedules(model, best[plain], o.target, o.pieces, tally)


def _in_processes(model: NoisyQuadratic, families: Families, plain: str, o: Search, tally: _Tally) -> Found:
    """Plain SGD and the schedules here, every other family in a worker."""
    context = get_context("spawn")  # a fork would have the locks of this process's threads, not the threads
    tally.elsewhere, given_up = context.Value("q", 0), context.Event()
    others = {name: family for name, family in families.items() if name != plain}
    workers = max(1, min(usable_cores(), len(others)))
    with ProcessPoolExecutor(workers, context, _begin, (tally.elsewhere, given_up)) as pool:
        try:
            with _interruptions_ignored():  # and so by the workers that start here, for good
                futures = {name: pool.submit(_in_worker, model, family, o) for name, family in others.items()}
            first = _constant(model, families[plain], o, tally)
            schedules = best_schedules(model, first, o.target, o.pieces, tally)
            while wait(futures.values(), _LOOK_SECONDS).not_done:
                tally.show()
            return {plain: first} | {name: future.result() for name, future in futures.items()}, schedules
        except BaseException:  # an interruption, say: what the others find is not wanted any more
            given_up.set()
            raise


def _constant(
    model: NoisyQuadratic, family: Sequence[Optimizer], o: Search, advance: Callable[[], None]
) -> list[Best | None]:
    return best_constant_lr(model, family, o.batch_sizes, o.target, o.points, o.decades, advance)


@contextmanager
def _interruptions_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where signals are not heard anyway
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_shared: tuple[Any, Any]  # of a worker: the number of rates done, and whether to give up


def _begin(*shared: Any) -> None:
    """Of a worker, when it starts."""
    global _shared
    _shared = shared


def _advance() -> None:
    counter, given_up = _shared
    if given_up.is_set():
        raise _GivenUp
    with counter.get_lock():
        counter.value += 1


def _in_worker(model: NoisyQuadratic, family: Sequence[Optimizer], o: Search) -> list[Best | None]:
    return _constant(model, family, o, _advance)
