"""Words and progress on the terminal: on standard error, so that a command's output can be piped."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    say(f"sgdlit: warning: {text}")


def track(items: Sequence[T], description: str) -> Iterable[T]:
    """Iterate with a progress bar and an ETA, which leave the screen when the work is done."""
    return _tracked(items, description) if sys.stderr.isatty() and len(items) > 1 else items


def _tracked(items: Sequence[T], description: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description, console=Console(stderr=True), transient=True)
