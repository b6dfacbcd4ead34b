"""Runs at an edge of stability: curves of what was measured, when an edge is reached, means over seeds."""

from collections.abc import Mapping, Sequence

from sgdlit.papers.paper import Row
from sgdlit.runs.outcomes import Outcome


def curve(member: Outcome, columns: Mapping[str, str]) -> list[Row]:
    """The steps at which all of some columns were measured: ``step``, and the value of each.

    Args:
        member: of a run.
        columns: name in the row -> name in ``metrics.csv``.
    """
    values = {
        name: dict(zip(*(part.tolist() for part in member.columns[column]), strict=True))
        for name, column in columns.items()
    }
    first, *others = values.values()
    steps = [step for step in first if all(step in other for other in others)]
    return [{"step": step, **{name: found[step] for name, found in values.items()}} for step in steps]


def edge_of(rows: Sequence[Row]) -> int | None:
    """The first measured step at which the limit is reached; None if it never is."""
    return next((int(row["step"]) for row in rows if row["over_limit"] >= 1), None)


def mean(values: Sequence[float]) -> float:
    """The mean."""
    return sum(values) / len(values)


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean over seeds; two values or more."""
    import numpy as np

    from sgdlit.foundations.intervals import t_interval

    return t_interval(np.array(values))


def interval(values: Sequence[float]) -> str:
    """That in words."""
    low, high = ends(values)
    return f"{low:.3g} to {high:.3g} (95 %, over {len(values)} seeds)"
