"""The one exception that is meant for the person at the keyboard, and how its text is put together.

A text names the key, its value, the nearest name that exists and what is allowed::

    data.last_batch: 'shrt' is not allowed; did you mean short? allowed: error, short, drop
"""

import difflib
import textwrap
from collections.abc import Iterable, Sequence

_WIDTH = 110


class UserError(Exception):
    """A mistake in the input that the user can mend: shown as text, without a traceback, exit code 2."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that is spelled most nearly like ``name``; None where none is near."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return near[0] if near else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """``; did you mean NEAREST?``, or nothing."""
    near = nearest(name, names)
    return f"; did you mean {near}?" if near else ""


def with_allowed(problem: str, allowed: Sequence[str]) -> str:
    """A problem and the values that are allowed, on one line if they fit."""
    if not allowed:
        return problem
    text = f"allowed: {', '.join(allowed)}"
    if len(problem) + len(text) < _WIDTH and "\n" not in problem:
        return f"{problem}{' ' if problem.endswith('?') else '; '}{text}"
    return problem + "\n" + textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
