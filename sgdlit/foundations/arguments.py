"""Numbers that a person hands to a function of a script, and what is said of those that make no sense."""

import math
from collections.abc import Sized

from sgdlit.foundations.errors import UserError


def require_counts(**given: float | None) -> None:
    """Refuse numbers of something that are not whole, or below 1; None is left alone.

    Raises:
        UserError: naming the argument and its value.
    """
    for name, value in given.items():
        if value is not None and (value != value or value < 1 or value != math.floor(value)):
            raise UserError(f"{name}: {value} is not possible; allowed: 1, 2, 3 and so on")


def require_above_zero(**given: float) -> None:
    """Refuse what is not above 0 and finite.

    Raises:
        UserError: naming the argument and its value.
    """
    for name, value in given.items():
        if not 0 < value < math.inf:
            raise UserError(f"{name}: {value} is not possible; allowed: a positive number")


def require_shares(**given: float) -> None:
    """Refuse what is not strictly between 0 and 1.

    Raises:
        UserError: naming the argument and its value.
    """
    for name, value in given.items():
        if not 0 < value < 1:
            raise UserError(f"{name}: {value} is not possible; allowed: above 0, below 1")


def require_not_negative(**given: float) -> None:
    """Refuse what is below 0, infinite or no number.

    Raises:
        UserError: naming the argument and its value.
    """
    for name, value in given.items():
        if not 0 <= value < math.inf:
            raise UserError(f"{name}: {value} is not possible; allowed: 0 or more")


def require_population(population: float, examples: float) -> None:
    """Refuse fewer examples in all than were seen.

    Raises:
        UserError: naming both numbers.
    """
    if not population >= examples:
        raise UserError(
            f"population: {population:g} is not possible for {examples:g} examples that were drawn from it; "
            f"allowed: {examples:g} or more, or math.inf"
        )


def require_some(name: str, given: Sized, needed: int = 1) -> None:
    """Refuse too few of something.

    Raises:
        UserError: naming how many there are.
    """
    if len(given) < needed:
        raise UserError(f"{name}: {len(given)} are not enough; allowed: {needed} or more")
