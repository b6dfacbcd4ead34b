"""Which values does an option take? Judged by jsonargparse, and said in words."""

import dataclasses
import difflib
import pkgutil
import typing
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from sgdlit.config.options import alternatives, class_names, classes_in, find_class, parameters, value_of
from sgdlit.foundations.errors import did_you_mean, with_allowed
from sgdlit.foundations.extras import how_to_install

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


_MOST = 60  # names that a message lists


def parsed(value: Any, hint: Any, current: "Namespace | None" = None) -> Any:
    """A value as jsonargparse reads it for a parameter with an annotation.

    Args:
        value: as it stands in a config or on a command line.
        hint: the annotation; None or text allow everything.
        current: the class that stands there, whose arguments are kept where they fit.

    Raises:
        jsonargparse.ArgumentError: the value does not fit.
    """
    from jsonargparse import Namespace

    base = Namespace(value=current) if current is not None else None
    return _parser(hint).parse_object({"value": value}, base).value


@lru_cache(maxsize=10_000, typed=True)
def parsed_number(value: bool | int | float, hint: Any) -> Any:
    """:func:`parsed` of a number, which the points of a grid have in common."""
    return parsed(value, hint)


@cache
def _parser(hint: Any) -> "ArgumentParser":
    from jsonargparse import ArgumentParser

    def holder(value):  # a parameter with the annotation: classes without annotations are read as elsewhere
        """One value."""

    if hint is not None and not isinstance(hint, str):
        holder.__annotations__ = {"value": hint}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(holder, fail_untyped=False, sub_configs=True)
    return parser


def fits(value: Any, hint: Any) -> bool:
    """Whether an option with an annotation takes a value; a class need not have its own arguments yet."""
    from jsonargparse import ArgumentError

    if value is None or (isinstance(value, str) and _names_class(value, classes_in(hint))):
        return value is not None or hint is None or type(None) in alternatives(hint)
    try:
        parsed(value, hint)
    except ArgumentError:
        return False
    return True


def _names_class(name: str, classes: list[type]) -> bool:
    """Whether a name is that of a class which may stand there."""
    found = find_class(name, classes)
    return found is not None and (not classes or issubclass(found, tuple(classes)))


def allowed_values(hint: Any) -> list[str]:
    """What an annotation allows, in words."""
    words: list[str] = []
    for part in alternatives(hint):
        classes = classes_in(part)
        if typing.get_origin(part) is typing.Literal:
            words += map(str, typing.get_args(part))
        elif classes and all(map(dataclasses.is_dataclass, classes)):
            words += [f"{cls.__name__} with {', '.join(parameters(cls))}" for cls in classes]
        elif classes:
            names = class_names(classes)
            words += [*names, f"the class path of {'another' if names else 'some'} {classes[0].__name__}"]
        elif value_of(part) is not None:
            words.append(f"NAME: {_name(value_of(part))}, for any names")
        elif part not in (None, type(None)):
            words += ["true", "false"] if part is bool else [_name(part)]
    return [*dict.fromkeys(words), *(["null"] if type(None) in alternatives(hint) else [])]


def _name(part: Any) -> str:
    if part is str:
        return "some text"
    return (
        part.__name__
        if isinstance(part, type) and not typing.get_args(part)
        else str(part).replace("typing.", "")
    )


def not_allowed(key: str, value: Any, hint: Any) -> str:
    """That the option at a key does not take a value, with the nearest one and all that it takes."""
    allowed, classes, reason = allowed_values(hint), classes_in(hint), ""
    name = value if isinstance(value, str) else str(value)
    dataclasses_only = all(map(dataclasses.is_dataclass, classes))
    if (
        classes
        and not dataclasses_only
        and "." in name
        and not {int, float, str, bool} & set(alternatives(hint))
    ):
        try:
            pkgutil.resolve_name(name)
        except Exception as error:  # whatever the user's module raises
            install = how_to_install(error.name) if isinstance(error, ModuleNotFoundError) else None
            reason = f" ({error}{f'; install it with: {install}' if install else ''})"
    problem = f"{key}: {value!r} is not {'a class that can be imported' if reason else 'allowed'}{reason}"
    kinds = {_name(part) for part in (int, float, str)}
    near = [word for word in allowed if word not in kinds]  # 'fast' is not meant to be 'float'
    meant = did_you_mean(name.rpartition(".")[2], near if classes else []) or did_you_mean(name, near)
    return with_allowed(problem + meant, _few(name, allowed))


def _few(name: str, allowed: list[str]) -> list[str]:
    """Of very many names those that are spelled most nearly like one, and what else is allowed."""
    if len(allowed) <= _MOST:
        return allowed
    plain = [text for text in allowed if " " not in text]
    near = difflib.get_close_matches(name.rpartition(".")[2], plain, n=8, cutoff=0.3)
    return [*near, f"others of {len(plain)}", *(text for text in allowed if " " in text)]
