"""What a config may set: the options that a class accepts, and the classes that may stand at a place."""

import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

# Bases that have many subclasses which no config should name.
_HOMES = {
    "Module": "sgdlit.models",
    "Tensor": "sgdlit",
    "LightningModule": "sgdlit",
    "Logger": "lightning.pytorch.loggers",
    "Callback": "lightning.pytorch.callbacks",
}


class Option(NamedTuple):
    """A parameter of a class, or an option of the command itself."""

    hint: Any = None
    default: Any = None
    required: bool = False


def parameters(cls: type) -> dict[str, Option]:
    """What a class accepts, with what ``**kwargs`` hands on to its bases."""
    found: dict[str, Option] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        try:
            hints = typing.get_type_hints(base.__init__)
        except Exception:  # an annotation that names something not importable: shown as it is written
            hints = {}
        arguments = list(inspect.signature(base.__init__).parameters.values())[1:]
        for p in arguments:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                required = p.default is p.empty
                hint = hints.get(p.name, None if p.annotation is p.empty else p.annotation)
                found.setdefault(p.name, Option(hint, None if required else p.default, required))
        if not any(p.kind is p.VAR_KEYWORD for p in arguments):
            break
    return found


def alternatives(hint: Any) -> list[Any]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [part for alternative in typing.get_args(hint) for part in alternatives(alternative)]
    return [hint]


def arguments_of_callable(hint: Any) -> int:
    """How many arguments the program itself gives to a class that stands for a callable (the parameters)."""
    for part in alternatives(hint):
        if typing.get_origin(part) is Callable and isinstance(typing.get_args(part)[0], list):
            return len(typing.get_args(part)[0])
    return 0


def classes_in(hint: Any) -> list[type]:
    """The classes that a class path may be given for: in a union, a list, or returned by a callable."""
    found = []
    for part in alternatives(hint):
        inner = typing.get_args(part)
        if typing.get_origin(part) in (list, Sequence, Iterable) and inner:
            found += classes_in(inner[0])
        elif typing.get_origin(part) is Callable and inner:
            found += classes_in(inner[-1])
        elif inspect.isclass(part) and part.__module__ != "builtins" and not typing.get_origin(part):
            found.append(part)
    return found


def find_class(name: str, bases: Sequence[type]) -> type | None:
    """The class of a class path, or of the bare name of an imported subclass."""
    module, _, attribute = name.rpartition(".")
    if module:
        try:
            found = getattr(importlib.import_module(module), attribute, None)
        except Exception:  # whatever the user's module raises; jsonargparse has reported it
            return None
        return found if inspect.isclass(found) else None
    return next((cls for base in bases for cls in (base, *_subclasses(base)) if cls.__name__ == name), None)


def _subclasses(base: type) -> Iterator[type]:
    for cls in type.__subclasses__(base):
        yield cls
        yield from _subclasses(cls)


def is_abstract(cls: type) -> bool:
    """Whether a class lacks something that its base demands, with a metaclass that knows of it or without."""
    return any(getattr(getattr(cls, name, None), "__isabstractmethod__", False) for name in dir(cls))


def class_names(bases: Sequence[type], offered: bool = True) -> list[str]:
    """Names of the concrete subclasses that are imported: all, or those that a config would name."""
    names = set()
    for base in bases:
        home = _HOMES.get(base.__name__, "") if offered else ""
        for cls in (base, *_subclasses(base)):
            room = sys.modules.get(".".join(cls.__module__.split(".")[:2]))
            public = getattr(room, "__all__", None) if home == "sgdlit.models" else None
            known = cls.__module__.startswith(home) and cls.__name__ in (public or [cls.__name__])
            if known and not cls.__name__.startswith("_") and not is_abstract(cls):
                names.add(cls.__name__)
        if offered:
            names.discard(base.__name__)
    return sorted(names)


def value_at(config: dict[str, Any], key: str) -> Any:
    """The value of a dotted key, in which ``init_args`` may be left out; None where there is none.

    An entry of a list goes by its number, or by the name of its class.
    """
    found: Any = config
    for part in key.split("."):
        if isinstance(found, list):
            found = dict(enumerate(found)) | {
                entry["class_path"].rpartition(".")[2]: entry for entry in found
            }
            part = int(part) if part.isdigit() else part
        if not isinstance(found, dict):
            return None
        inner = found.get("init_args") or {}
        found = found[part] if part in found else inner.get(part)
    return found
