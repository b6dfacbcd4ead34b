"""What is measured? One quantity per file: a pure function, its formula, and the measure that a run takes of
it.

A measure declares what it needs of a run at a step; ``sgdlit.training.measuring.Measures`` takes measures
during training. The pure functions work in any script, on a network, a loss and batches::

    from sgdlit.measures import gradient_noise, example_norms

Every public function and class of the files is here, and its file is imported when it is asked for. A
function has its file's name where it is what the file is about: the name is that of the function then, once
the file is imported.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from sgdlit.measures.catalogue import homes


def __getattr__(name: str) -> Any:
    home = None if name.startswith("_") else homes().get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(homes())


class _Room(ModuleType):
    """Python makes a file an attribute of its folder; a function of the file's name comes before it."""

    def __setattr__(self, name: str, value: Any) -> None:
        own = vars(value).get(name) if isinstance(value, ModuleType) else None
        super().__setattr__(name, value if own is None else own)


sys.modules[__name__].__class__ = _Room
