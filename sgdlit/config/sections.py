"""A nested mapping as dataclasses, with every mistake named by its whole key.

For the sections of a sweep file that are no part of a run's config. A dataclass that is :class:`Abbreviated`
may be written in short.
"""

import dataclasses
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from sgdlit.config.axes import number
from sgdlit.foundations.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


class Abbreviated(ABC):
    """A dataclass with a short form, such as a name alone."""

    @classmethod
    @abstractmethod
    def read(cls, given: Any, where: str) -> Any:
        """The mapping that ``given`` stands for where it is a short form; else ``given``."""


def build(cls: type[T], given: Any, where: str) -> T:
    """An instance of a dataclass from what stands at the key ``where``.

    Raises:
        UserError: an option that the class does not have, one that it needs, a value of another type.
    """
    if issubclass(cls, Abbreviated):
        given = cls.read(given, where)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: {shown(given)} is not allowed; allowed: options, {', '.join(fields)}")
    for name in given:
        check_name(str(name), fields, f"{where}.{name}", "there is no such option")
    required = [name for name, field in fields.items() if _is_required(field) and name not in given]
    if required:
        raise UserError(f"{where}.{required[0]}: missing; allowed in {where}: {', '.join(fields)}")
    hints = typing.get_type_hints(cls)
    values = {name: _value(hints[name], given[name], f"{where}.{name}") for name in given}
    try:
        return cls(**values)
    except UserError as error:  # of values that do not go together
        raise UserError(f"{where}.{error}") from error


def check_name(name: str, names: typing.Iterable[str], where: str, problem: str) -> None:
    """Refuse a name that is none of ``names``, with the nearest one.

    Raises:
        UserError: ``WHERE: PROBLEM; did you mean ...? allowed: ...``.
    """
    names = list(names)
    if name not in names:
        meant = did_you_mean(name, names) or ";"
        raise UserError(f"{where}: {problem}{meant} allowed: {', '.join(names) or 'none'}")


def shown(value: Any) -> str:
    """A value of YAML in words."""
    return "null" if value is None else repr(value)


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(hint: Any, given: Any, where: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if given is None and type(None) in inner:
            return None
        (hint,) = [part for part in inner if part is not type(None)]
        return _value(hint, given, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, given, where)
    if origin is list and isinstance(given, list):
        return [_value(inner[0], entry, f"{where}.{i}") for i, entry in enumerate(given)]
    if origin is dict and isinstance(given, Mapping):
        return {str(name): _value(inner[1], entry, f"{where}.{name}") for name, entry in given.items()}
    if origin is typing.Literal:
        check_name(
            given if isinstance(given, str) else shown(given), inner, where, f"{shown(given)} is not allowed"
        )
        return given
    return _leaf(hint, given, where)


def _leaf(hint: Any, given: Any, where: str) -> Any:
    if hint is Any:
        return given
    value = number(given) if hint in (int, float) else given
    fits = isinstance(value, (int, float) if hint is float else typing.get_origin(hint) or hint)
    if not fits or (isinstance(value, bool) and hint is not bool):
        words = {list: "a list", dict: "KEY: VALUE", str: "text", bool: "true, false"}
        allowed = words.get(typing.get_origin(hint) or hint, hint.__name__)
        raise UserError(f"{where}: {shown(given)} is not allowed; allowed: {allowed}")
    return value
