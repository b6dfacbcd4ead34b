"""What λ is at a step: constant, piecewise constant, a linear ramp, or tied to the learning rate.

A strength is called as strength(step, lr), with the number of updates made so far and the current learning
rate, and returns λ ≥ 0.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass

from sgdlit.foundations.errors import UserError
from sgdlit.objectives.penalty import check_strength


class Strength(ABC):
    """strength(step, lr) -> λ."""

    @abstractmethod
    def __call__(self, step: int, lr: float) -> float:
        """λ for the update number ``step``, counted from 0, that is made with learning rate ``lr``."""


@dataclass(frozen=True)
class ConstantStrength(Strength):
    """λ = value at every step.

    Args:
        value: λ.
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        check_strength(self.value)

    def __call__(self, step: int, lr: float) -> float:
        return self.value


@dataclass(frozen=True)
class PiecewiseStrength(Strength):
    """λ = values[i] from step boundaries[i-1] on, and values[0] before boundaries[0].

    Args:
        values: of λ, one after another.
        boundaries: the steps from which the second and later ones hold.

    Raises:
        UserError: boundaries that do not increase, or not one fewer than the values; a negative value.
    """

    values: list[float]
    boundaries: list[int]

    def __post_init__(self) -> None:
        for value in self.values:
            check_strength(value)
        if len(self.values) != len(self.boundaries) + 1:
            raise UserError(
                f"boundaries: {len(self.boundaries)} of them for {len(self.values)} values; give one fewer"
            )
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise UserError(f"boundaries: {self.boundaries} do not increase")

    def __call__(self, step: int, lr: float) -> float:
        return self.values[bisect_right(self.boundaries, step)]


@dataclass(frozen=True)
class LinearRampStrength(Strength):
    """λ = start before step ``begin``, then linear in the step, and end from step ``begin + steps`` on.

    Args:
        start: λ before.
        end: λ afterwards.
        steps: over which it changes.
        begin: the step from which it changes.

    Raises:
        UserError: a negative strength or ``begin``; ``steps`` below 1.
    """

    start: float
    end: float
    steps: int
    begin: int = 0

    def __post_init__(self) -> None:
        check_strength(self.start)
        check_strength(self.end)
        if self.steps < 1:
            raise UserError(f"steps: {self.steps} is not allowed; give 1 or more")
        if self.begin < 0:
            raise UserError(f"begin: {self.begin} is not allowed; give 0 or more")

    def __call__(self, step: int, lr: float) -> float:
        done = min(max(step - self.begin, 0) / self.steps, 1.0)
        return (1 - done) * self.start + done * self.end


@dataclass(frozen=True)
class TiedToLearningRate(Strength):
    """λ = ratio · lr. With ratio 1 the explicit penalty is as strong as the implicit one of SGD at that rate
    (Smith et al. 2021, 2101.12176, equation 1).

    Args:
        ratio: λ/ε.
    """

    ratio: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < float("inf"):
            raise UserError(f"ratio: {self.ratio} is not allowed; give a number from 0 upwards")

    def __call__(self, step: int, lr: float) -> float:
        return self.ratio * lr
