"""A budget for measures: what is refused, and which change of the plan would keep to it."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from sgdlit.foundations.errors import UserError
from sgdlit.measures.measure import LogSpaced, Measure
from sgdlit.training.measure_plan import Plan, in_percent
from sgdlit.training.measure_views import View

_FEWEST = 10  # examples that a change of plan is looked for down to


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
            f"allowed: {_rounded_up(plan.share)} or more, or null for no limit"
        )
    words = [f"{what} ({in_percent(share)})" for what, share in changes]
    others = f"; or {'; or '.join(words[1:])}" if words[1:] else ""
    raise UserError(f"{problem}; cheapest change: {words[0]}{others}")


def _rounded_up(share: float) -> str:
    """With two digits, and no less than it is."""
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return f"{math.ceil(share / unit - 1e-9) * unit:.2g}"


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
