"""Which number of a run is looked at, and which one of several runs that differ in their seeds alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sgdlit.config.axes import number
from sgdlit.config.sections import Abbreviated
from sgdlit.config.words import metric_in_words, symbol
from sgdlit.foundations.errors import UserError
from sgdlit.sweeps.expressions import shown_number

Interval = Literal["t", "bootstrap", "none"]
_WHENS = (
    "final, lowest, highest, {mean_of_last: ROWS}, {first_step_at_or_below: V}, {first_step_at_or_above: V}"
)


@dataclass(frozen=True)
class Metric(Abbreviated):
    """One number of a run.

    Args:
        name: a column of the run's ``metrics.csv``.
        when: its ``final`` value, the ``lowest`` or ``highest`` over the run, the ``mean_of_last`` so many
            rows, or the ``first_step_at_or_below`` (``_above``) a value.
        value: rows or value of the last three.
        better: ``lower`` or ``higher``; by default higher for accuracies, lower for everything else.
        label: name of the axis.
    """

    name: str
    when: Literal[
        "final", "lowest", "highest", "mean_of_last", "first_step_at_or_below", "first_step_at_or_above"
    ] = "final"
    value: float | None = None
    better: Literal["lower", "higher"] | None = None
    label: str | None = None

    @classmethod
    def read(cls, given: Any, where: str) -> Any:
        """``NAME`` alone, and ``when: {mean_of_last: 50}``."""
        if isinstance(given, str):
            return {"name": given}
        when = given.get("when") if isinstance(given, Mapping) else None
        if isinstance(when, Mapping) and len(when) == 1 and "value" not in given:
            ((kind, value),) = when.items()
            return {**given, "when": kind, "value": value}
        return given

    def __post_init__(self) -> None:
        takes_value = self.when not in ("final", "lowest", "highest")
        too_few = self.when == "mean_of_last" and self.value is not None and self.value < 1
        if takes_value != (self.value is not None) or too_few:
            written = self.when if self.value is None else f"{{{self.when}: {self.value}}}"
            raise UserError(f"when: {written} is not allowed; allowed: {_WHENS}")

    @property
    def higher_is_better(self) -> bool:
        if self.better is not None:
            return self.better == "higher"
        return "accuracy" in self.name and not self.when.startswith("first_step")

    @property
    def words(self) -> str:
        """The metric as an axis names it: ``highest test accuracy``."""
        return self._words(metric_in_words(self.name))

    @property
    def logged(self) -> str:
        """The metric as tables name it, by the name under which it was logged: ``highest test/loss``."""
        return self._words(self.name)

    def _words(self, name: str) -> str:
        value = f"{self.value:g}" if self.value is not None else ""
        return (
            self.label
            or {
                "final": name,
                "lowest": f"lowest {name}",
                "highest": f"highest {name}",
                "mean_of_last": f"{name}, mean of the last {value} logged",
                "first_step_at_or_below": f"steps to {name} ≤ {value}",
                "first_step_at_or_above": f"steps to {name} ≥ {value}",
            }[self.when]
        )


@dataclass(frozen=True)
class Statistic(Abbreviated):
    """One number of several runs that differ only in their seed.

    Args:
        center: ``mean`` or ``median``.
        best: over the best so many runs only, diverged ones ranked last; None for all.
        interval: ``t`` (of the mean over all runs), ``bootstrap`` (of anything) or ``none``; by default t for
            the mean over all, bootstrap for the rest.
        level: coverage of the interval.
        paired: instead of a run's value its difference to that of the run with the same seed that has these
            values, and all others alike: ``{model.reg_strength: 0}``.
    """

    center: Literal["mean", "median"] = "mean"
    best: int | None = None
    interval: Interval | None = None
    level: float = 0.95
    paired: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, given: Any, where: str) -> Any:
        """``mean`` or ``median`` alone, and ``{mean_of_best: 5}``."""
        if isinstance(given, str):
            return {"center": given}
        if isinstance(given, Mapping) and "mean_of_best" in given:
            rest = {name: value for name, value in given.items() if name != "mean_of_best"}
            return {"center": "mean", "best": given["mean_of_best"], **rest}
        return given

    def __post_init__(self) -> None:
        if self.best is not None and self.best < 1:
            raise UserError(f"best: {self.best} is not allowed; allowed: 1 or more")
        if self.paired and self.best is not None:
            raise UserError("paired: a mean of the best differences has no meaning; allowed without best")
        if not 0 < self.level < 1:
            raise UserError(f"level: {self.level} is not allowed; allowed: between 0 and 1")
        if self.interval == "t" and (self.center != "mean" or self.best is not None):
            raise UserError(
                "interval: t is only that of the mean over all runs; allowed with median or with "
                "the best of some: bootstrap, none"
            )

    @property
    def baseline(self) -> str:
        """What runs are paired with, such as ``λ = 0``; empty where they are not."""
        return ", ".join(f"{symbol(key)} = {shown_number(number(v))}" for key, v in self.paired.items())

    @property
    def kind_of_interval(self) -> Interval:
        if self.interval is not None:
            return self.interval
        return "t" if self.center == "mean" and self.best is None else "bootstrap"
