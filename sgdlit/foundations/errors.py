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


def in_words(error: OSError) -> str:
    """What the system refused, and of which file."""
    where = error.filename or "a file could not be written or read"
    return f"{where}: {error.strerror or error}"


def refused_by_the_system(error: BaseException) -> OSError | None:
    """The error of a file behind another error, or that error itself; None where no file is to blame.

    Of several it is one that names its file.
    """
    chain: list[BaseException] = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    found = [each for each in chain if isinstance(each, OSError)]
    return next((each for each in found if each.filename), found[0] if found else None)


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
