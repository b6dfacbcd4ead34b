"""How a measure is taken: at which steps, of how many examples, in which mode."""

from dataclasses import dataclass, replace
from typing import Literal

from sgdlit.measures.measure import AtSteps, Cadence, LogSpaced, Measure
from sgdlit.measures.undisturbed import Mode
from sgdlit.training.log_spaced_validation import log_spaced_steps, next_log_spaced

AUTO = 500  # examples, or all of a smaller set

Count = int | Literal["auto"] | None
"""How many examples: a number, ``auto`` or, with None, all."""


@dataclass(frozen=True)
class View:
    """How a measure is taken; a measure's own settings come before those of all measures.

    Attributes:
        every_n_steps: see :class:`sgdlit.training.measuring.Measures`, as the others.
        at: log-spaced steps, or some by number.
        examples: n.
        mode: of the network.
        chunk_size: examples that are looked at together.
    """

    every_n_steps: int | None
    at: Cadence | None
    examples: Count
    mode: Mode
    chunk_size: int

    def of(self, measure: Measure) -> "View":
        """How one of the measures is taken."""
        own = self
        if measure.every_n_steps or measure.at:
            own = replace(own, every_n_steps=measure.every_n_steps, at=measure.at)
        if measure.examples is not None:
            own = replace(own, examples=None if measure.examples == "all" else measure.examples)
        return own if measure.mode is None else replace(own, mode=measure.mode)

    @property
    def looks_at(self) -> tuple[Count, Mode]:
        """Measures with the same share what is computed."""
        return self.examples, self.mode

    def count(self, training: int | None) -> int | None:
        """n, of a training set of that size (None for a stream); None for all of it."""
        if self.examples == "auto":
            return AUTO if training is None else min(AUTO, training)
        return training if self.examples is None else self.examples

    @property
    def has_cadence(self) -> bool:
        """Whether something is measured before the end."""
        return self.every_n_steps is not None or self.at is not None

    def next_step(self, step: int) -> int | None:
        """The first step after ``step`` at which something is measured, but for the last of the run."""
        if isinstance(self.at, LogSpaced):
            return next_log_spaced(step, self.at.first, self.at.per_doubling)
        if isinstance(self.at, AtSteps):
            return min((s for s in self.at.steps if s > step), default=None)
        return None if self.every_n_steps is None else (step // self.every_n_steps + 1) * self.every_n_steps

    def steps(self, last: int) -> set[int]:
        """All steps of a run at which something is measured: 0 and the last are always among them."""
        found = {0, last} if self.has_cadence else {last}
        if isinstance(self.at, LogSpaced):
            found.update(log_spaced_steps(self.at.first, last, self.at.per_doubling))
        elif isinstance(self.at, AtSteps):
            found.update(s for s in self.at.steps if s <= last)
        elif self.every_n_steps is not None:
            found.update(range(0, last + 1, self.every_n_steps))
        return found

    def in_words(self) -> str:
        """Its cadence."""
        if isinstance(self.at, LogSpaced):
            return f"from {self.at.first} on, {self.at.per_doubling} per doubling"
        if isinstance(self.at, AtSteps):
            return f"{len(self.at.steps)} steps by number"
        return "at the end" if self.every_n_steps is None else f"every {self.every_n_steps} steps"
