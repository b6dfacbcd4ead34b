"""Which measures are taken of a run: those of presets, what is refused, when each is due, and of what."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sgdlit.algorithms import Member
from sgdlit.data.batches import Block
from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.measures.measure import OF_EXAMPLES, Measure
from sgdlit.measures.presets import PresetName, preset
from sgdlit.measures.undisturbed import refuse_coupled_examples, undisturbed
from sgdlit.objectives.step_shown import Kind
from sgdlit.training.measure_views import View


class MeasureChoice:
    """The measures of a run.

    What a preset has and cannot be taken of the run is left out, and that is said; what is given by itself is
    an error then.

    Args:
        given: measures, and names of presets; what is given by itself replaces a preset's one of its class.
        view: how those are taken that do not say so themselves.

    Attributes:
        measures: all of them, in the order in which they are taken.
    """

    def __init__(self, given: Sequence[Measure | PresetName], view: View) -> None:
        self.measures, self._optional = _expanded(given)
        self.view = view
        self._views = {measure: view.of(measure) for measure in self.measures}
        self._of_steps: list[Measure] = []

    def view_of(self, measure: Measure) -> View:
        """How one of them is taken."""
        return self._views[measure]

    @property
    def has_optional(self) -> bool:
        """Whether some come from presets."""
        return bool(self._optional)

    @property
    def needs(self) -> set[str]:
        """What any of them needs."""
        return needs_of(self.measures)

    def by_name(self) -> dict[str, Measure]:
        """Each measure by its class; further ones of the same class with a number."""
        seen: Counter[str] = Counter()
        found = {}
        for measure in self.measures:
            name = type(measure).__name__
            seen[name] += 1
            found[name if seen[name] == 1 else f"{name} {seen[name]}"] = measure
        return found

    def by_view(self, due: Sequence[Measure]) -> Iterator[tuple[View, list[Measure]]]:
        """Measures that look at the same examples in the same mode share what they need."""
        by_what: dict[Any, list[Measure]] = {}
        for measure in due:
            by_what.setdefault(self._views[measure].looks_at, []).append(measure)
        for those in by_what.values():
            yield self._views[those[0]], those

    # At which steps

    def next_due(self, step: int, last: float) -> int | None:
        """The first step after ``step`` at which something is measured; None for never.

        Args:
            step: updates made.
            last: of the run.
        """
        due = self._next(step, self._between_steps)
        found = [when for when in (last, due) if when is not None and step < when < math.inf]
        return int(min(found)) if found else None

    def by_cadence(self, step: int) -> list[Measure]:
        """Those that are due at a step for another reason than that it is the last."""
        return self._at(step, self.measures)

    def _at(self, step: int, those: Sequence[Measure]) -> list[Measure]:
        return [one for one in those if self._views[one].next_step(step - 1) == step]

    def due(self, step: int, last: float) -> list[Measure]:
        """Those that are taken between two steps; at the last all, as no step follows that could show any."""
        return list(self.measures) if step >= last else self._at(step, self._between_steps)

    # What steps show by themselves

    def see_steps(self, kind: Kind | None) -> None:
        """From here on, steps show this much to the measures that are found in it; None for nothing."""
        self._of_steps = [one for one in self.measures if kind is not None and one.found_in_a_step == kind]

    @property
    def _between_steps(self) -> list[Measure]:
        return [one for one in self.measures if one not in self._of_steps]

    def of_step(self, step: int) -> list[Measure]:
        """Those that are found in the backward pass of the step after so many updates."""
        return self._at(step, self._of_steps)

    def shown_in(self, block: Block) -> list[int]:
        """Updates before the steps of a block in which any of them is found."""
        if not self._of_steps:
            return []
        found, step = [], max(block.start - 1, 0)
        while (due := self._next(step, self._of_steps)) is not None and due < block.end:
            found.append(due)
            step = due
        return found

    def _next(self, step: int, those: Sequence[Measure]) -> int | None:
        due = [when for one in those if (when := self._views[one].next_step(step)) is not None]
        return min(due, default=None)

    def is_looked_back_at(self, step: int, last: float) -> bool:
        """Whether a measure that is due within some updates looks back at this step."""
        return any(
            step + back >= last or self._views[measure].next_step(step + back - 1) == step + back
            for measure in self.measures
            for back in range(1, measure.looks_back + 1)
        )

    def looked_back_at(self, start: int, end: int, last: float) -> list[int]:
        """Steps between two, within which nothing is measured, at which a measure looks back."""
        most = max((measure.looks_back for measure in self.measures), default=0)
        return [s for s in range(max(start + 1, end - most), end) if self.is_looked_back_at(s, last)]

    # What is refused

    def check(self, members: Sequence[Member], data: Sequence[KeyedData], speaks: bool) -> None:
        """Leave out what a preset has and cannot be taken of these runs.

        Args:
            members: the runs.
            data: of each.
            speaks: whether this process says what is left out.

        Raises:
            UserError: a measure that is given by itself and cannot be taken.
        """
        for measure in list(self.measures):
            try:
                for member, own in zip(members, data, strict=True):
                    self._check_one(measure, member, own)
            except UserError as error:
                if measure not in self._optional:
                    raise
                self._leave_out(measure, str(error), speaks)

    def _check_one(self, measure: Measure, member: Member, data: KeyedData) -> None:
        measure.check_optimizer(member.optimizer)
        with undisturbed(member.network, self._views[measure].mode):
            measure.check(member.network, data)
            if measure.looks_at_each:
                refuse_coupled_examples(member.network)

    def without_start(self, speaks: bool) -> None:
        """Leave out what looks at the parameters of the start, of a run whose checkpoint has none.

        Raises:
            UserError: such a measure is given by itself.
        """
        why = (
            "the checkpoint has no parameters of the start, from which a measure takes distances; allowed: "
            "one of a run that had this measure from the start"
        )
        for measure in list(self.measures):
            if "initial_parameters" in measure.needs:
                if measure not in self._optional:
                    raise UserError(f"ckpt_path: {why}")
                self._leave_out(measure, why, speaks)

    def _leave_out(self, measure: Measure, why: str, speaks: bool) -> None:
        """A measure of a preset."""
        self.measures.remove(measure)
        if speaks:
            name = type(measure).__name__
            say(f"{name} is left out of the measures: {why.removeprefix(f'{name}: ')}")
        if not self.measures:
            raise UserError("Measures.measures: none is left; allowed: one or more that can be taken")

    # Of which examples

    def examples(self, data: KeyedData) -> Tensor:
        """The examples that any of the measures looks at: each takes the first n of them.

        Raises:
            UserError: more than there are.
        """
        found = torch.empty(0, dtype=torch.int64)
        for measure in self.measures:
            if set(measure.needs) & OF_EXAMPLES:
                try:
                    own = data.choose(self._views[measure].count(data.training_size), "measures")
                except UserError as error:
                    owner = "Measures" if measure.examples is None else type(measure).__name__
                    raise UserError(f"{owner}.examples: {error}") from None
                found = max(found, own, key=len)
        return found

    def about_arrays(self, data: Sequence[KeyedData]) -> dict[str, dict[str, Any]]:
        """What the arrays of each name are."""
        seeds = [own.seed for own in data]
        return {
            name: {
                "measure": type(measure).__name__,
                "formula": measure.formula,
                "axes": axes,
                "examples": self._views[measure].count(data[0].training_size),
                "mode": self._views[measure].mode,
                "seed": seeds[0] if len(set(seeds)) == 1 else seeds,
            }
            for measure in self.measures
            for name, axes in measure.arrays.items()
        }


def needs_of(measures: Sequence[Measure]) -> set[str]:
    """What any of some measures needs."""
    return {need for measure in measures for need in measure.needs}


def _expanded(given: Sequence[Measure | PresetName]) -> tuple[list[Measure], list[Measure]]:
    """All measures, and those of them that come from presets; what is given by itself replaces these."""
    named = [one for one in given if isinstance(one, Measure)]
    kinds = {type(one) for one in named}
    optional: dict[type, Measure] = {}
    for name in given:
        if isinstance(name, str):
            optional |= {type(one): one for one in preset(name) if type(one) not in kinds}
    return [*optional.values(), *named], list(optional.values())
