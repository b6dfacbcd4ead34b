"""The first step at which the risk of a noisy quadratic is at or below a target, certainly the first.

The risk need not fall steadily (momentum oscillates; noise may fill one direction while another still
falls), so bisection alone could find a later crossing. Here an interval of steps is discarded only when a
lower bound of the risk on all of it lies above the target, and split otherwise, leftmost part first, down
to single steps. The bound is bias(k) from below plus noise(a)/B, since the noise part never falls.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np

from sgdlit.foundations.errors import UserError
from sgdlit.theory.noisy_quadratic import ExactRisk, NoisyQuadratic, check_batch, check_target
from sgdlit.theory.optimizers import Optimizer

HORIZON = 2**46
"""No search looks further; it is above any number of steps that will ever be taken."""


@dataclass(frozen=True)
class Best:
    """The fewest steps to the target, and with what."""

    batch_size: float
    steps: int
    lr: float
    optimizer: Optimizer


def steps_to_target(exact: ExactRisk, batch_size: float, target: float) -> int | None:
    """The first step with risk <= target; 0 if the start is there already, None if it is never reached."""
    check_target(target)
    return _Search(exact).first(check_batch(batch_size), target, HORIZON)


def lr_grid(
    model: NoisyQuadratic, optimizer: Optimizer, points: int = 100, decades: float = 9.0
) -> np.ndarray:
    """Rates α_max · 10^(−decades·(1 − j/points)) for 0 <= j < points, below the largest stable one, α_max.

    α_max is 2/h_max, 2(1 + β)/h_max with momentum, 2/h_max^{1−γ} with a preconditioner; it is left out.
    """
    if points < 1 or decades <= 0:
        raise UserError(f"rates = {points}, decades = {decades}: must be at least 1 and positive")
    highest = model.largest_lr(optimizer)
    return np.geomspace(highest * 10.0**-decades, highest, points, endpoint=False)


def best_constant_lr(
    model: NoisyQuadratic,
    optimizers: Sequence[Optimizer],
    batch_sizes: Sequence[float],
    target: float,
    points: int = 100,
    decades: float = 9.0,
    on_progress: Callable[[], None] = lambda: None,
) -> list[Best | None]:
    """For each batch size, the fewest steps to the target over ``optimizers`` and a grid of rates each.

    None stands for a batch size at which the target is never reached.
    Of several optimizers that take as few, the first is taken, and of its rates the smallest. A rate is given
    up as soon as its risk is certainly above the target up to the best number of steps so far.
    ``on_progress`` is called once per optimizer and rate.
    """
    check_target(target)
    sizes = [check_batch(b) for b in batch_sizes]
    best: list[Best | None] = [None] * len(sizes)
    by_noise = sorted(range(len(sizes)), key=lambda i: sizes[i])  # most steps first
    for optimizer in optimizers:
        too_small, steady = 0.0, optimizer.steady_below() / optimizer.stable_below()
        for lr in _spread_out(lr_grid(model, optimizer, points, decades)):
            on_progress()
            if lr <= too_small:
                continue
            search = _Search(ExactRisk(model, optimizer, float(lr)))
            for i in by_noise:
                now = best[i]
                steps = search.first(sizes[i], target, HORIZON if now is None else now.steps)
                if steps is not None and _is_better(steps, lr, optimizer, now):
                    best[i] = Best(sizes[i], steps, float(lr), optimizer)
            # A bias that alone is too large, and would be larger still at any smaller rate.
            most = max(HORIZON if now is None else now.steps for now in best)
            if search.clear >= most and lr <= steady * model.largest_lr(optimizer):
                too_small = max(too_small, lr)
    return best


def _is_better(steps: int, lr: float, optimizer: Optimizer, now: Best | None) -> bool:
    """Whether a rate that takes at most as many steps as the best so far is to replace it."""
    return now is None or steps != now.steps or (optimizer == now.optimizer and lr < now.lr)


def _spread_out(rates: np.ndarray, stride: int = 10) -> Iterable[float]:
    """Every tenth first, largest first: an early good rate lets the others be given up early."""
    order = sorted(range(len(rates)), key=lambda i: (i % stride != stride // 2, -i))
    return rates[order]


class _Search:
    """The risks of one run, remembered over batch sizes: only the noise part depends on B, as 1/B."""

    def __init__(self, exact: ExactRisk) -> None:
        self.exact = exact
        self.means: dict[int, np.ndarray] = {}
        self.biases: dict[int, float] = {}
        self.noises: dict[int, float] = {0: 0.0}
        self.least_biases: dict[tuple[int, int], float] = {}
        self.noise_limit = exact.floor(1)
        self.clear = 0

    def first(self, batch_size: float, target: float, limit: int) -> int | None:
        """The first step <= limit with risk <= target, or None. One search serves one target."""
        if limit <= self.clear:
            return None
        if self.risk(0, batch_size) <= target:
            return 0
        a, b = 0, 1 if limit == HORIZON else limit
        while a < limit:
            found = self._first_within(a, b, batch_size, target)
            if found is not None:
                return found
            if b < limit and (self.noise(b) / batch_size > target or self._settled(b, batch_size, target)):
                return None
            a, b = b, min(2 * b, limit)
        return None

    def _settled(self, k: int, batch_size: float, target: float) -> bool:
        """Past every transient, at a floor that is not below the target."""
        return self.noise_limit / batch_size >= target and self.noise(k) >= self.noise_limit * (1 - 1e-15)

    def _first_within(self, a: int, b: int, batch_size: float, target: float) -> int | None:
        """The first step in (a, b] with risk <= target, given that the risk at a is above it."""
        waiting = [(a, b)]
        while waiting:
            a, b = waiting.pop()
            if b == a + 1:
                if self.risk(b, batch_size) <= target:
                    return b
            elif self.least(a, b, batch_size, target) <= target:
                middle = _middle(a, b)
                waiting += [(middle, b), (a, middle)]
            elif a == 0 and self.least_biases.get((a, b), 0.0) > target:
                self.clear = max(self.clear, b)  # whatever the batch size
        return None

    def least(self, a: int, b: int, batch_size: float, target: float) -> float:
        """A lower bound of the risk on [a, b]; the noise part alone where that is above the target."""
        noise = self.noise(a) / batch_size
        if noise > target:
            return noise
        if (a, b) not in self.least_biases:
            squares = self.exact.response.least_square(a, b, self._mean(a), self._mean(b))
            self.least_biases[a, b] = float(self.exact.bias_weights @ squares)
        return noise + self.least_biases[a, b]

    def risk(self, k: int, batch_size: float) -> float:
        if k not in self.biases:
            self.biases[k] = float(self.exact.bias_weights @ self._mean(k) ** 2)
        return self.biases[k] + self.noise(k) / batch_size

    def noise(self, k: int) -> float:
        if k not in self.noises:
            self.noises[k] = self.exact.noise(k)
        return self.noises[k]

    def _mean(self, k: int) -> np.ndarray:
        if k not in self.means:
            self.means[k] = self.exact.response.mean(k)
        return self.means[k]


def _middle(a: int, b: int) -> int:
    """A point strictly between: a power of two amid far ends, a round number amid near ones.

    Round points are shared between searches with other limits, and so are the risks there.
    """
    if b >= 4 * max(a, 1):
        power = 1 << (isqrt(max(a, 1) * b).bit_length() - 1)
        return power if power > a else a + 1
    half = a + (b - a) // 2
    width = 1 << max((b - a).bit_length() - 2, 0)
    rounded = half // width * width
    return rounded if rounded > a else half
