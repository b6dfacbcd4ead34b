"""What is measured? One quantity per file: a pure function, its formula, and the measure that a run takes of
it.

A measure declares what it needs of a run at a step; ``sgdlit.training.Measures`` takes measures during
training. The pure functions work in any script.
"""

import pkgutil
from functools import cache
from importlib import import_module


@cache
def find_all() -> None:
    """Import every measure of this folder, so that a config may call it by its class name."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
