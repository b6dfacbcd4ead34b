"""What the measures of a run will cost, known before it begins: a table, and a budget.

All of it is counted, in passes through the network (``sgdlit.measures.work``), and nothing is timed. So which
steps are measured, and whether a budget allows it, is the same on every machine.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from sgdlit.algorithms import Member
from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.errors import UserError
from sgdlit.measures.example_gradients import linear_layers
from sgdlit.measures.mean_gradient import trained_parameters
from sgdlit.measures.measure import OF_EXAMPLES, AtSteps, Cadence, LogSpaced, Measure
from sgdlit.measures.undisturbed import Mode, has_batchnorm
from sgdlit.measures.work import Sizes, not_yet_done
from sgdlit.training.log_spaced_validation import log_spaced_steps, next_log_spaced

AUTO = 500  # examples, or all of a smaller set
_FEWEST = 10  # examples that a change of plan is looked for down to
_EARLY = 2  # steps, from 0, at which some measures have nothing to do yet


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


class PlannedMeasure(NamedTuple):
    """A line of the plan.

    Attributes:
        measure: what is taken.
        view: how.
        times: at how many steps.
        examples: n; 0 where it looks at none.
        gradients: in the whole run and of all members, without what a measure above it pays.
    """

    measure: Measure
    view: View
    times: int
    examples: int
    gradients: float


class Plan(NamedTuple):
    """What the measures of a run will cost, in gradients of one example.

    Attributes:
        lines: measure by measure.
        per_step: what a step costs, of all members.
        steps: of the run.
    """

    lines: list[PlannedMeasure]
    per_step: float
    steps: int

    @property
    def share(self) -> float:
        """The gradients for measures over those of the run's steps."""
        return sum(line.gradients for line in self.lines) / (self.per_step * self.steps)

    def table(self) -> list[str]:
        """The plan in lines of text; the last is the sum."""
        rows = [("measure", "when", "times", "examples", "steps each", "share")]
        for line in self.lines:
            each = line.gradients / line.times / self.per_step
            share = line.gradients / (self.per_step * self.steps)
            name, when = type(line.measure).__name__, line.view.in_words()
            rows.append(
                (name, when, str(line.times), str(line.examples or "-"), _price(each), in_percent(share))
            )
        rows.append(("together", "", "", "", "", in_percent(self.share)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(
                word.ljust(width) if k < 2 else word.rjust(width)
                for k, (word, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]


def in_percent(share: float) -> str:
    """A share in words."""
    if share >= 9.95:
        return f"{share:.0f} times"
    return "0" if share == 0 else f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _price(steps: float) -> str:
    return "0" if steps == 0 else f"{steps:.2g}" if steps < 99.5 else f"{steps:.0f}"


def planned_share(
    measures: Sequence[Measure],
    view: View,
    members: Sequence[Member],
    data: Sequence[KeyedData],
    steps: int,
) -> float:
    """The gradients that measures take over those that a run's steps take; see :func:`plan_of`."""
    return plan_of(measures, view, members, data, steps).share


def plan_of(
    measures: Sequence[Measure],
    view: View,
    members: Sequence[Member],
    data: Sequence[KeyedData],
    steps: int,
) -> Plan:
    """The plan of a run.

    A step of a member costs B gradients, three times as many with the explicit regularizer (see
    ``Objective.gradients``). How many products the Lanczos iteration takes is an expectation, see
    :func:`sgdlit.measures.lanczos.expected_products`; all else is what is computed, as long as the graphs
    of all examples fit into memory (``Products.graph_memory``).

    Args:
        measures: in the order in which they are taken: the first that needs something pays for it.
        view: how those are taken that do not say so themselves.
        members: the runs.
        data: of each.
        steps: of the run, 1 or more.
    """
    views = [view.of(measure) for measure in measures]
    due = [own.steps(steps) for own in views]
    paid = [0.0] * len(measures)
    together: Counter[tuple[int, ...]] = Counter()  # how often some measures are taken at the same step
    early: dict[int, tuple[int, ...]] = {}
    kinds: Counter[tuple[Sizes, float]] = Counter()
    for step in set().union(*due):
        those = tuple(i for i, own in enumerate(due) if step in own)
        if step < _EARLY:
            early[step] = those
        else:
            together[those] += 1
    occasions = [(step, those, 1) for step, those in early.items()]
    occasions += [(_EARLY, those, times) for those, times in together.items()]
    for member, own_data in zip(members, data, strict=True):
        kinds[_sizes(view, member, own_data), price_of_example_gradient(member)] += 1
    for (sizes, of_one), number in kinds.items():
        for step, those, times in occasions:
            for i, price in _prices(measures, views, those, replace(sizes, step=step), of_one):
                paid[i] += number * times * price
    lines = [
        PlannedMeasure(measure, own, len(when), _looked_at(measure, own, data[0]), price)
        for measure, own, when, price in zip(measures, views, due, paid, strict=True)
    ]
    per_step = sum(price_of_step(member, own) for member, own in zip(members, data, strict=True))
    return Plan(lines, per_step, steps)


def price_of_step(member: Member, data: KeyedData) -> float:
    """What a step of a run costs, in gradients of one example."""
    return data.batch_size * (member.objective.gradients if member.is_penalized else 1)


def _prices(
    measures: Sequence[Measure],
    views: Sequence[View],
    those: Sequence[int],
    sizes: Sizes,
    of_one: float,
) -> Iterator[tuple[int, float]]:
    """What each of those measures pays at a step."""
    done: dict[tuple[Count, Mode], set] = {}
    for i in those:
        work = measures[i].work(replace(sizes, examples=views[i].count(sizes.training) or 0))
        new = not_yet_done(work, done.setdefault(views[i].looks_at, set()))
        yield i, sum(one.price(of_one) for one in new.values())


def price_of_example_gradient(member: Member) -> float:
    """The price of the norm of the gradient of one example: with linear layers alone it comes with that of
    the mean, see :mod:`sgdlit.measures.example_gradients`."""
    return 1.5 if linear_layers(member.network) is None else 1.3


def _sizes(view: View, member: Member, data: KeyedData) -> Sizes:
    """What the work of a measure depends on, at step 0."""
    trained = trained_parameters(member.network).values()
    training = data.training_size
    return Sizes(
        step=0,
        examples=view.count(training) or 0,
        chunk_size=view.chunk_size,
        batch_size=data.batch_size,
        training=training,
        test=data.size("test"),
        parameters=sum(p.numel() for p in trained),
        matrices=sum(p.dim() > 1 for p in trained),
        normalized=has_batchnorm(member.network),
    )


def _looked_at(measure: Measure, view: View, data: KeyedData) -> int:
    return (view.count(data.training_size) or 0) if set(measure.needs) & OF_EXAMPLES else 0


# A budget


def check_budget(
    budget: float, plan: Plan, again: Callable[[Sequence[Measure], View], Plan], view: View
) -> None:
    """Refuse a plan that costs more than a share of the run's gradients.

    Args:
        budget: the share.
        plan: what is planned.
        again: measures and how they are taken -> their plan, for changes that are looked at.
        view: how they are taken.

    Raises:
        UserError: naming the change that leaves most of the plan as it is, and others.
    """
    if plan.share <= budget:
        return
    measures = [line.measure for line in plan.lines]
    changes = list(_changes(budget, measures, again, view))
    changes.sort(key=lambda change: -change[1])
    problem = f"Measures.budget: {budget} is less than the planned share of {in_percent(plan.share)}"
    if not changes:
        raise UserError(
            f"{problem}, and no single change makes it fit: not other examples, steps, or a measure less; "
            f"allowed: {plan.share:.2g} or more, or null for no limit"
        )
    words = [f"{what} ({in_percent(share)})" for what, share in changes]
    others = f"; or {'; or '.join(words[1:])}" if words[1:] else ""
    raise UserError(f"{problem}; cheapest change: {words[0]}{others}")


def _changes(
    budget: float,
    measures: Sequence[Measure],
    again: Callable[[Sequence[Measure], View], Plan],
    view: View,
) -> Iterator[tuple[str, float]]:
    """Changes that keep to a budget, each with its share: the least of fewer examples, of fewer steps, and of
    leaving a measure out."""

    def with_examples(n: int) -> float:
        return again(measures, replace(view, examples=n)).share

    lines = again(measures, view).lines
    most = max((line.examples for line in lines if line.measure.examples is None), default=0)
    fewer = _largest(_round_numbers(_FEWEST, most), with_examples, budget)
    if fewer is not None:
        yield f"examples: {fewer}", with_examples(fewer)
    yield from _fewer_steps(budget, measures, again, view)
    without = {
        type(one).__name__: again([m for m in measures if m is not one], view).share for one in measures
    }
    fitting = {name: share for name, share in without.items() if share <= budget and len(measures) > 1}
    if fitting:
        name = max(fitting, key=lambda one: fitting[one])
        yield f"without {name}", fitting[name]


def _fewer_steps(
    budget: float,
    measures: Sequence[Measure],
    again: Callable[[Sequence[Measure], View], Plan],
    view: View,
) -> Iterator[tuple[str, float]]:
    if isinstance(view.at, LogSpaced):
        first = view.at.first
        for per_doubling in range(view.at.per_doubling - 1, 0, -1):
            share = again(measures, replace(view, at=LogSpaced(first, per_doubling))).share
            if share <= budget:
                yield f"at: {{first: {first}, per_doubling: {per_doubling}}}", share
                return
    elif view.every_n_steps is not None:
        last = again(measures, view).steps

        def with_period(period: int) -> float:
            return again(measures, replace(view, every_n_steps=period)).share

        longer = _round_numbers(view.every_n_steps + 1, last + 1)[::-1]
        period = _largest(longer, with_period, budget)
        if period is not None:
            yield f"every_n_steps: {period}", with_period(period)


def _round_numbers(low: int, below: int) -> list[int]:
    """Numbers of two digits and zeros, from ``low`` on and below another, that rise."""
    found: set[int] = set()
    unit = 1
    while unit < below:
        found.update(k * unit for k in range(1, 100) if low <= k * unit < below)
        unit *= 10
    return sorted(found)


def _largest(numbers: Sequence[int], share: Callable[[int], float], budget: float) -> int | None:
    """The last of some numbers, along which the share rises, that keeps to a budget; None for none."""
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if share(numbers[middle]) <= budget else (low, middle)
    return numbers[low - 1] if low else None
