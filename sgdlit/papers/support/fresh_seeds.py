"""The seeds of claims outside the list: 3000, 3001, …, which nobody had looked at when margins were set.

Margins, grids and bands of these claims were set with runs of seeds 0, 1, 2, … or 100, 101, … in view, so
that neither those nor what is drawn from them is reported: starts, orders, data, teachers, splits are new.
"""

FIRST = 3000

ONE_SEED = ("--seed_everything", str(FIRST))
SPLIT = ("--data.split_seed", str(FIRST))
"""Arguments of ``fit`` and ``sweep``; the second one chooses which images are for training."""


def fresh_seeds(count: int) -> list[int]:
    """So many of them."""
    return list(range(FIRST, FIRST + count))


def in_words(count: int) -> str:
    """Which ones these are, such as ``3000 to 3009``."""
    return str(FIRST) if count == 1 else f"{FIRST} to {FIRST + count - 1}"


def axis(count: int) -> str:
    """An axis of ``--ensemble`` over so many of them."""
    return f"{{seed_everything: {fresh_seeds(count)}}}"
