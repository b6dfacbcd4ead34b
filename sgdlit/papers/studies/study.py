"""What every study returns, and how it reports progress."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sgdlit.papers.claim import Claim

Row = dict[str, object]
Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)``."""


def silent(what: str, done: int, total: int) -> None:
    """The progress of a study that nobody watches."""


@dataclass
class Study:
    """Tables by name (rows with equal keys; ``None`` where there is no value), claims, and remarks."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
