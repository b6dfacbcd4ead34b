"""A claim of a paper, and what a check of it finds: plain data, listed without computing anything."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["exact", "simulated", "trained"]

EXACT = "none: computed exactly"
IN_ERRORS = "none: itself a distance in standard errors"


@dataclass(frozen=True)
class Claim:
    """A statement of a paper that the program checks.

    Attributes:
        id: as the sources are numbered here, such as ``F1b``; with the paper's name it is unique.
        statement: what is claimed, in a sentence.
        source: paper and equation, figure or section.
        kind: whether the check computes ``exact`` numbers, runs a ``simulated`` model, or has networks
            ``trained``.
        prediction: what has to be found for the claim to hold.
        quick: the protocol of ``reproduce`` at quick scale.
        full: the protocol at full scale.
        config: the file below ``configs/`` that trains at full scale; empty where there is none.
        shows: whether it shows at quick scale. Where it does not, that is a result: findings say so with
            numbers, and the notes of those that fail say why, as far as it is known.
        other_seeds: where the verdict turned with other seeds, which ones and what was found
            (scripts/other_seeds.py).
    """

    id: str
    statement: str
    source: str
    kind: Kind
    prediction: str
    quick: str
    full: str
    config: str = ""
    shows: bool = True
    other_seeds: str = ""


@dataclass(frozen=True)
class Finding:
    """One comparison that a claim rests on; ``predicted`` and ``found`` are numbers as a reader sees them.

    Attributes:
        claim: the id.
        statement: what was compared.
        interval: of what was found, or ``none: ...`` with the reason why there is none.
        note: anything else that a reader should know.
    """

    claim: str
    statement: str
    predicted: str
    found: str
    holds: bool
    interval: str
    note: str = ""

    def __str__(self) -> str:
        verdict = "yes" if self.holds else "NO"
        return (
            f"{self.claim:5} {self.statement}: predicted {self.predicted}; found {self.found}; "
            f"holds: {verdict}"
        )
