"""A claim of a paper, what was predicted, what was found, and whether it holds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One checked statement; ``predicted`` and ``found`` are the numbers as a reader should see them."""

    id: str
    statement: str
    predicted: str
    found: str
    holds: bool

    def __str__(self) -> str:
        verdict = "yes" if self.holds else "NO"
        return (
            f"{self.id:5} {self.statement}: predicted {self.predicted}; found {self.found}; holds: {verdict}"
        )
