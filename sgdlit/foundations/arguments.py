"""Numbers that a person hands to a function of a script, or to a class of a config, and what is said of those
that make no sense.

A class gives its name as ``owner``: its argument is ``owner.name`` then, as the config has it.
"""

import math
from collections.abc import Iterable, Sized

from sgdlit.foundations.errors import UserError


def require_counts(owner: str = "", /, fewest: int = 1, **given: float | None) -> None:
    """Refuse numbers of something that are not whole, or below the fewest; None is left alone.

    Raises:
        UserError: naming the argument and its value.
    """
    allowed = f"{fewest}, {fewest + 1}, {fewest + 2} and so on"
    for name, value in given.items():
        if value is not None:
            _require(fewest <= value < math.inf and value == math.floor(value), owner, name, value, allowed)


def require_above_zero(owner: str = "", /, **given: float) -> None:
    """Refuse what is not above 0 and finite.

    Raises:
        UserError: naming the argument and its value.
    """
    for name, value in given.items():
        _require(0 < value < math.inf, owner, name, value, "a positive number")


def require_shares(owner: str = "", /, **given: float) -> None:
    """Refuse what is not strictly between 0 and 1.

    Raises:
        UserError: naming the argument and its value.
    """
    for name, value in given.items():
        _require(0 < value < 1, owner, name, value, "above 0, below 1")


def require_not_negative(owner: str = "", /, **given: float) -> None:
    """Refuse what is below 0, infinite or no number.

    Raises:
        UserError: naming the argument and its value.
    """
    for name, value in given.items():
        _require(0 <= value < math.inf, owner, name, value, "0 or more")


def require_finite(name: str, given: Iterable[float]) -> None:
    """Refuse numbers some of which are infinite or none.

    Raises:
        UserError: naming the first of them.
    """
    for value in given:
        _require(math.isfinite(value), "", name, value, "finite numbers")


def _require(holds: bool, owner: str, name: str, value: float, allowed: str) -> None:
    if not holds:
        key = f"{owner}.{name}" if owner else name
        raise UserError(f"{key}: {value} is not possible; allowed: {allowed}")


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
