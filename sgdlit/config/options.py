"""What may be set: the options that a class accepts, and the classes that may stand at a key."""

import contextlib
import dataclasses
import inspect
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import yaml

from sgdlit.config.keys import short_key

# Bases that have many subclasses which no config should name.
_HOMES = {
    "Module": "sgdlit.models",
    "Tensor": "sgdlit",
    "LightningModule": "sgdlit",
    "Logger": "lightning.pytorch.loggers",
    "Callback": "lightning.pytorch.callbacks",
    "Metric": "torchmetrics",
}


class Option(NamedTuple):
    """A parameter of a class, or an option of the command itself."""

    hint: Any = None
    default: Any = None
    required: bool = False


@cache
def parameters(cls: type) -> Mapping[str, Option]:
    """What a class accepts, with what ``**kwargs`` hands on to its bases."""
    found: dict[str, Option] = {}  # the same for everyone who asks: nobody changes it
    for base in cls.__mro__:
        constructor = vars(base).get("__init__", vars(base).get("__new__"))
        if constructor is None or base is object:
            continue
        constructor = inspect.unwrap(getattr(constructor, "__func__", constructor))
        try:
            hints = typing.get_type_hints(constructor)
        except Exception:  # an annotation that names something not importable: shown as it is written
            hints = {}
        arguments = list(inspect.signature(constructor).parameters.values())[1:]
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


def element_of(hint: Any) -> Any:
    """What a list takes, of an annotation that allows one; the annotation itself of others."""
    for part in alternatives(hint):
        if typing.get_origin(part) in (list, Sequence, Iterable) and typing.get_args(part):
            return typing.get_args(part)[0]
    return hint


def value_of(hint: Any) -> Any:
    """What stands under each name of a mapping, of an annotation that allows one; None of others."""
    for part in alternatives(hint):
        if typing.get_origin(part) in (dict, Mapping) and typing.get_args(part):
            return typing.get_args(part)[1]
    return None


def takes_lists_only(hint: Any) -> bool:
    """Whether an annotation allows a list and nothing else, but null."""
    parts = [part for part in alternatives(hint) if part is not type(None)]
    return bool(parts) and all(typing.get_origin(part) is list for part in parts)


def find_class(name: str, bases: Sequence[type]) -> type | None:
    """The class of a class path, or of the bare name of an imported subclass."""
    if "." not in name:
        return next((c for base in bases for c in (base, *_subclasses(base)) if c.__name__ == name), None)
    try:
        found = pkgutil.resolve_name(name)
    except Exception:  # whatever the user's module raises; jsonargparse has reported it
        return None
    return found if inspect.isclass(found) else None


def _subclasses(base: type) -> Iterator[type]:
    subclasses: list[type] = type.__subclasses__(base)
    for cls in subclasses:
        yield cls
        yield from _subclasses(cls)


def is_abstract(cls: type) -> bool:
    """Whether a class lacks something that its base demands, with a metaclass that knows of it or without."""
    return any(getattr(getattr(cls, name, None), "__isabstractmethod__", False) for name in dir(cls))


def class_names(bases: Sequence[type]) -> list[str]:
    """Names of the concrete subclasses that are imported and that a config would name."""
    names = set()
    for base in bases:
        home = _HOMES.get(base.__name__, "")
        for cls in _subclasses(base):
            room = sys.modules.get(".".join(cls.__module__.split(".")[:2]))
            public = getattr(room, "__all__", None) if home == "sgdlit.models" else None
            known = cls.__module__.startswith(home) and cls.__name__ in (public or [cls.__name__])
            if known and not cls.__name__.startswith("_") and not is_abstract(cls):
                names.add(cls.__name__)
    return sorted(names)


class Places:
    """The settings that were given, and which options and classes there are at each key.

    Args:
        settings: by short key.
        options: those of the command itself (``model``, ``trainer`` ...).
    """

    def __init__(self, settings: Mapping[str, Any], options: Mapping[str, Option]) -> None:
        self.settings, self.options = settings, options
        self._found: dict[str, Mapping[str, Option] | None] = {"": options}

    def options_at(self, key: str) -> Mapping[str, Option] | None:
        """The options of the class at a key; None where no class is known there."""
        if key not in self._found:
            self._found[key] = self._options_at(key)
        return self._found[key]

    def _options_at(self, key: str) -> Mapping[str, Option] | None:
        chosen, option = self.class_at(key), self.option(key)
        if chosen is None:
            return None
        kinds = classes_in(option.hint) if option and not isinstance(self.settings.get(key), str) else []
        if len(kinds) > 1 and all(map(dataclasses.is_dataclass, kinds)):  # which of them, its options tell
            return {name: one for kind in kinds for name, one in parameters(kind).items()}
        filled = arguments_of_callable(option.hint) if option else 0
        return dict(list(parameters(chosen).items())[filled:])

    def option(self, key: str) -> Option | None:
        """The option that a key names; that of the list or the mapping where the key is a place in one."""
        parent, _, name = key.rpartition(".")
        holder = self.option(parent) if parent else None
        if name.isdigit():
            return None if holder and value_of(holder.hint) is not None else holder
        value = value_of(holder.hint) if holder else None
        return Option(value) if value is not None else (self.options_at(parent) or {}).get(name)

    def class_at(self, key: str) -> type | None:
        """The class that was chosen for a key, else the one that stands there by default."""
        option = self.option(key)
        bases = classes_in(option.hint) if option else []
        name = self.settings.get(key)
        if isinstance(name, str):
            return find_class(name, bases)
        if option and inspect.isclass(option.default):
            return option.default
        return bases[0] if bases else None

    def parts_below(self, key: str) -> list[str]:
        """The names right below a key that are given, without numbers of places in lists."""
        depth = key.count(".") + 1 if key else 0
        below = [given.split(".")[depth] for given in self.settings if not key or given.startswith(f"{key}.")]
        return [part for part in dict.fromkeys(below) if not part.isdigit()]

    def is_given(self, key: str) -> bool:
        """Whether the key or one below it is set."""
        return any(f"{given}.".startswith(f"{key}.") for given in self.settings)

    def all_keys(self) -> list[str]:
        """All keys that may have options of their own, outermost first; the first is that of the command."""
        given = {".".join(key.split(".")[:n]) for key in self.settings for n in range(1, key.count(".") + 2)}
        return ["", *sorted({*given, *self.options}, key=lambda key: (key.count("."), key))]

    def whole_key(self, name: str, said: str = "") -> str:
        """The key of the setting whose last parts are ``name``; ``name`` itself where there is none.

        Args:
            name: the last parts.
            said: what a message says of the setting, its value first: of several settings with this name the
                one with this value is meant, and the last one where none has it.
        """
        found = [key for key in self.settings if f".{key}".endswith(f".{short_key(name)}")]
        meant = [key for key in found if _begins_with(said.lstrip(), self.settings[key])]
        return (meant or found or [name])[-1]


def _begins_with(said: str, value: Any) -> bool:
    """Whether a text begins with a value, as it is shown; one from the command line is YAML."""
    if isinstance(value, str):
        with contextlib.suppress(yaml.YAMLError):
            value = yaml.safe_load(value)
    forms = {str(value), repr(value)} | ({str(float(value))} if type(value) is int else set())
    return any(re.match(re.escape(form) + r"(?![\w.])", said) for form in forms)
