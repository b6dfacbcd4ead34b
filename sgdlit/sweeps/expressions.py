"""What may stand on an x axis: a key of the config, or products and quotients of keys and numbers.

``step`` among the keys stands for the steps of a run: ``step * data.batch_size`` counts examples.
"""

import math
import re
from collections.abc import Callable
from typing import Any

from sgdlit.config.axes import number
from sgdlit.config.keys import short_key
from sgdlit.config.words import key_in_words, symbol
from sgdlit.foundations.errors import UserError


class Expression:
    """``KEY``, ``KEY / KEY``, ``KEY * 4 / KEY``: evaluated from left to right.

    Args:
        text: as it was written.
        where: its place in the sweep file, for messages.

    Raises:
        UserError: it is none.
    """

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where
        parts = re.split(r"\s*([*/])\s*", text.strip())
        if not all(re.fullmatch(r"[\w.]+(\^-?\d+)?", part) for part in parts[::2]):
            raise UserError(
                f"{where}: {text!r} is not allowed; allowed: a key of the config, or keys and numbers with * "
                "and / between them, such as model.optimizer.lr / data.batch_size"
            )
        self._terms = [number(term) for term in parts[::2]]
        self._terms = [short_key(term) if isinstance(term, str) else term for term in self._terms]
        self._signs = parts[1::2]
        self.over_steps = "step" in self._terms
        self.keys = [term for term in self._terms if isinstance(term, str) and term != "step"]

    def value(self, of: Callable[[str], Any]) -> Any:
        """Its value, given those of its keys: a number, or for a key alone whatever it holds.

        Raises:
            UserError: a key in a product that holds no number.
        """
        values = [of(term) if isinstance(term, str) else term for term in self._terms]
        if not self._signs:
            return values[0] if isinstance(values[0], int | float | str) else str(values[0])
        for term, value in zip(self._terms, values, strict=True):
            if not isinstance(value, int | float):
                raise UserError(f"{self.where}: {term} is {value!r}, not a number, in {self.text!r}")
        result = values[0]
        for sign, value in zip(self._signs, values[1:], strict=True):
            result = result * value if sign == "*" else result / value
        return result

    @property
    def words(self) -> str:
        """The name of an axis."""
        if not self._signs:
            return key_in_words(str(self._terms[0]))
        named = [symbol(term) if isinstance(term, str) else f"{term:g}" for term in self._terms]
        signs = {"*": " · ", "/": " / "}
        return named[0] + "".join(signs[s] + name for s, name in zip(self._signs, named[1:], strict=True))


def shown_number(value: Any) -> str:
    """A value as people write it: powers of two that are no small whole numbers as 2^k."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    exponent = power_of_two(value)
    if exponent is not None and not 0 <= exponent <= 6:
        return f"2^{exponent}"
    return f"{value:.6g}"


def power_of_two(value: float) -> int | None:
    """k where value = 2ᵏ exactly; None elsewhere."""
    if not value > 0 or math.isinf(value):
        return None
    mantissa, exponent = math.frexp(value)
    return exponent - 1 if mantissa == 0.5 else None
