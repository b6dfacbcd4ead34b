"""The finite sets of images, one file each: a file in this folder is a set, and nothing else lists it.

The file's docstring begins with a line about the set, for ``python -m sgdlit data --help``. It defines one
class, a :class:`sgdlit.data.image_shards.ImageShards`.
"""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sgdlit.data.image_shards import ImageShards


def names() -> list[str]:
    """Of the sets, as the command ``data`` takes them; nothing is imported for it."""
    return [module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)]


def description(name: str) -> str:
    """The first line of the set's file; nothing is imported for it."""
    source = (Path(__path__[0]) / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def load(name: str) -> "type[ImageShards]":
    """The class of a set."""
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    from sgdlit.data.image_shards import ImageShards

    own = (cls for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == module.__name__)
    return next(cls for cls in own if issubclass(cls, ImageShards))


def find_all() -> "list[type[ImageShards]]":
    """The classes of all sets."""
    return [load(name) for name in names()]
