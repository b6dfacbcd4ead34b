"""The deep bootstrap: test error in the real world, on n examples, and in the ideal one, on a stream."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sgdlit.figures.style import COLORS, finish, panels
from sgdlit.foundations.console import warn
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdlit.runs.outcomes import Outcome
    from sgdlit.runs.reading import Run

SIZE = "data.shard_size"
SMALL = 0.01  # training error at which a run has fitted its examples
_ERROR, _ACCURACY = "test/soft_error", "train_set/accuracy"

World = list[dict[str, float]]
"""What the seeds of one number of examples had at each evaluation."""


def draw(run: "Run") -> "Figure | None":
    """Test soft error and bootstrap error over steps, with intervals over seeds; None where the run has no
    worlds to compare."""
    try:
        return draw_worlds(worlds_of(run))
    except UserError as error:
        warn(str(error))
        return None


def worlds_of(run: "Run") -> dict[int | None, World]:
    """For each number of examples (None for the ideal world), what its seeds had at each evaluation.

    A row has ``step``; ``error`` with ``error_low`` and ``error_high``, the soft error on the test set as
    mean and 95 % t-interval over seeds; the same of ``gap``, its difference to the ideal world of the same
    seed, the bootstrap error; and ``train_error``, the mean share of training examples misclassified.

    Raises:
        UserError: the run is no ensemble over ``data.shard_size`` with null, the stream, and another value.
    """
    members = [member for member in run.members if SIZE in member.point]
    sizes = dict.fromkeys(member.point[SIZE] for member in members)
    if None not in sizes or len(sizes) < 2:
        raise UserError(
            f"{run.folder}: the deep bootstrap needs an ensemble over data.shard_size with null, the stream, "
            "among its values and at least one other"
        )
    ideal = {_twin(member.point): _column(member, _ERROR) for member in members if member.point[SIZE] is None}
    return {
        size: _world([member for member in members if member.point[SIZE] == size], ideal) for size in sizes
    }


def _twin(point: Mapping[str, Any]) -> str:
    """What the worlds of one comparison have in common: all but what decides the number of examples."""
    return json.dumps({k: v for k, v in point.items() if k not in (SIZE, "data.evaluate_train")})


def _column(member: "Outcome", name: str) -> dict[int, float]:
    """Values by step."""
    steps, values = member.columns.get(name, ((), ()))
    return {int(step): float(value) for step, value in zip(steps, values, strict=True)}


def _world(members: "Sequence[Outcome]", ideal: Mapping[str, Mapping[int, float]]) -> World:
    errors = [_column(member, _ERROR) for member in members]
    accuracies = [_column(member, _ACCURACY) for member in members]
    twins = [ideal.get(_twin(member.point), {}) for member in members]
    rows = []
    for step in sorted({step for column in errors for step in column}):
        here = [column[step] for column in errors if step in column]
        gaps = [e[step] - t[step] for e, t in zip(errors, twins, strict=True) if step in e and step in t]
        row = {"step": step, **_interval("error", here), **_interval("gap", gaps)}
        trained = [1 - column[step] for column in accuracies if step in column]
        if trained:
            row["train_error"] = sum(trained) / len(trained)
        rows.append(row)
    return rows


def _interval(name: str, values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % t-interval; the interval of a single value is the value."""
    import numpy as np

    if not values:
        return {}
    mean = sum(values) / len(values)
    low, high = t_interval(np.array(values)) if len(values) > 1 else (mean, mean)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def fitted_at(world: World) -> int | None:
    """The first evaluated step with a training error of at most 1 %; None if there is none."""
    return next((int(row["step"]) for row in world if row.get("train_error", 1.0) <= SMALL), None)


def draw_worlds(worlds: Mapping[int | None, World]) -> "Figure":
    """The same from :func:`worlds_of`, with intervals of the bootstrap error, which compares equal seeds.

    Those of the test errors would cover each other.
    """
    figure, (errors, gaps) = panels(1, 2, width=5.2, height=3.8)
    sizes = sorted(size for size in worlds if size is not None)
    for size, color in zip([*sizes, None], [*COLORS[: len(sizes)], "black"], strict=True):
        label = "stream (ideal world)" if size is None else f"n = {size}"
        _draw_mean(errors, worlds[size], "error", color, label, "--" if size is None else "-")
        if size is not None:
            _draw_mean(gaps, worlds[size], "gap", color, label, "-")
            _draw_band(gaps, worlds[size], "gap", color)
            _draw_dot(errors, worlds[size], "error", color)
            _draw_dot(gaps, worlds[size], "gap", color)
    gaps.axhline(0, color="black", linestyle="--", linewidth=1)
    finish(errors, "Test error, mean over seeds", "step", "soft error 1 − p_y on the test set", log="x")
    finish(
        gaps,
        "Bootstrap error, mean and 95 % t-interval over seeds",
        "step",
        "soft error minus that of the ideal world",
        log="x",
    )
    for ax in (errors, gaps):
        ax.plot([], [], "o", color="grey", label="training error ≤ 1 %")
        ax.legend(fontsize=7.5, framealpha=0.9, loc="best")
    return figure


def _draw_mean(ax: "Axes", world: World, name: str, color: str, label: str, style: str) -> None:
    steps = [row["step"] for row in world]
    ax.plot(steps, [row[name] for row in world], style, color=color, label=label, linewidth=1.5)


def _draw_band(ax: "Axes", world: World, name: str, color: str) -> None:
    steps = [row["step"] for row in world]
    low, high = ([row[f"{name}_{end}"] for row in world] for end in ("low", "high"))
    ax.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)


def _draw_dot(ax: "Axes", world: World, name: str, color: str) -> None:
    step = fitted_at(world)
    row = next((row for row in world if row["step"] == step), None)
    if row is not None:
        ax.plot(
            [row["step"]], [row[name]], "o",
            color=color, markersize=6, markeredgecolor="black", markeredgewidth=0.6,
        )  # fmt: skip
