"""Axes over the keys of a config: which values they take, and a config with the values of one point.

A list of axes is a list of entries, and entries are crossed, the last one running fastest. An entry maps one
or more keys to their values; the keys of one entry go together (equal length; a value alone goes with each).

    - seed_everything: [0, 1, 2]
    - model.optimizer.lr: {powers_of: 2, from: -9, to: -3}      # 2⁻⁹ ... 2⁻³, in steps of 2^step
      data.repeats: [1, 1, 2, 2, 4, 4, 8]
    - model.reg_strength: [0, 2^-6, 2^-4]                       # numbers may be written base^exponent
    - data.label_noise: {log_from: 1.0e-3, log_to: 1.0, count: 7}

Keys are written without ``init_args``. A value that is a list itself stands in a list of its own. A callback
goes by the name of its class: ``trainer.callbacks.IterateAverage.decay``.
"""

import copy
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sgdlit.config.keys import flat_settings, short_key
from sgdlit.config.mistakes import no_such_option
from sgdlit.config.options import Option, Places, arguments_of_callable, classes_in, find_class, parameters
from sgdlit.config.values import not_allowed, parsed, parsed_number
from sgdlit.foundations.errors import UserError, did_you_mean, nearest, with_allowed

if TYPE_CHECKING:
    from jsonargparse import Namespace

Point = dict[str, Any]

_RANGES = ({"powers_of", "from", "to"}, {"log_from", "log_to", "count"})
_FORMS = (
    "a list [a, b, ...], {powers_of: 2, from: -9, to: -3, step: 1} or {log_from: 0.001, log_to: 1, count: 7}"
)
_POWER = re.compile(r"([+-]?)(\d+(?:\.\d+)?)\s*\^\s*([+-]?\d+(?:\.\d+)?)")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_LONGEST = 100_000  # values of an axis, and points of several
_MOST_BITS = 1024  # of a whole number that a float could be
_DIGITS = 12  # of a logarithmic range: more would show the rounding of powers


# Which values


def expand(axes: Sequence[Mapping[str, Any]], where: str = "axes") -> list[Point]:
    """The points of some axes: every combination of their entries; one point without keys for no axes.

    Args:
        axes: entries as they were read from YAML.
        where: the key of the axes themselves, for messages.

    Raises:
        UserError: an entry that is none, an axis without values, keys of one entry with unequal numbers of
            values, a key in two entries.
    """
    if not isinstance(axes, list | tuple):
        raise UserError(f"{where}: {axes!r} is not allowed; allowed: a list of entries, each KEY: VALUES")
    columns = [_entry(entry, f"{where}.{i}") for i, entry in enumerate(axes)]
    seen: set[str] = set()
    for column in columns:
        twice = seen & column[0].keys()
        if twice:
            raise UserError(f"{where}: {min(twice)} has an entry already; allowed: each key in one entry")
        seen |= column[0].keys()
    if math.prod(map(len, columns)) > _LONGEST:
        raise UserError(f"{where}: {math.prod(map(len, columns))} points; allowed: at most {_LONGEST}")
    return [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*columns)]


def _entry(entry: Any, where: str) -> list[Point]:
    """The points of one entry, whose keys go together."""
    if not isinstance(entry, Mapping) or not entry:
        raise UserError(f"{where}: {entry!r} is not allowed; allowed: KEY: VALUES, one or more of them")
    columns = {short_key(str(key)): _values(values, f"{where}: {key}") for key, values in entry.items()}
    lengths = {key: len(values) for key, values in columns.items() if isinstance(values, list)}
    if len(set(lengths.values())) > 1:
        raise UserError(
            f"{where}: {', '.join(f'{key} has {n}' for key, n in lengths.items())} values, but the keys of "
            "one entry go together; to combine each value with each, make every key an entry of its own:\n"
            + "\n".join(f"  - {key}: ..." for key in lengths)
        )
    count = next(iter(lengths.values()), 1)
    filled = {key: v if isinstance(v, list) else [v] * count for key, v in columns.items()}
    return [dict(zip(filled, values, strict=True)) for values in zip(*filled.values(), strict=True)]


def _values(given: Any, where: str) -> list[Any] | Any:
    """The values of one key: a list, or a value alone as it is."""
    if isinstance(given, list):
        if not given:
            raise UserError(f"{where}: an axis without values; allowed: {_FORMS}")
        return [number(value) for value in given]
    if not isinstance(given, Mapping) or "class_path" in given:
        return number(given)
    if given.keys() >= _RANGES[0] and given.keys() <= _RANGES[0] | {"step"}:
        return _powers(given, where)
    if given.keys() == _RANGES[1]:
        return _log_spaced(given, where)
    raise UserError(f"{where}: {dict(given)} is not allowed{_nearest_form(given)}; allowed: {_FORMS}")


def _nearest_form(given: Mapping[str, Any]) -> str:
    known = sorted({"step"}.union(*_RANGES))
    for key in given:
        near = nearest(str(key), known)
        if key not in known and near:
            return f", did you mean {near} by {key}?"
    return ""


def _powers(given: Mapping[str, Any], where: str) -> list[float]:
    base, first, last, step = (number(given.get(name, 1)) for name in ("powers_of", "from", "to", "step"))
    numbers = all(isinstance(k, int | float) and not isinstance(k, bool) for k in (base, first, last, step))
    if not numbers or base <= 0 or last < first or step <= 0:
        raise UserError(
            f"{where}: {dict(given)} is not allowed; allowed: powers_of above 0, from <= to, step above 0"
        )
    if not _finite(base, first, last, step) or (last - first) / step >= _LONGEST:
        raise UserError(f"{where}: {dict(given)} is not allowed; allowed: at most {_LONGEST} finite numbers")
    powers = [_power(base, first + k * step) for k in range(int((last - first) / step + 1e-9) + 1)]
    if not _finite(*powers):
        raise UserError(f"{where}: {dict(given)} is not allowed; allowed: powers that are finite")
    return powers


def _log_spaced(given: Mapping[str, Any], where: str) -> list[float]:
    low, high, count = (number(given[name]) for name in ("log_from", "log_to", "count"))
    numbers = all(isinstance(v, int | float) for v in (low, high, count))
    possible = numbers and _finite(low, high) and min(low, high) > 0 and 2 <= count <= _LONGEST
    if not possible or count != int(count):
        raise UserError(
            f"{where}: {dict(given)} is not allowed; allowed: log_from and log_to above 0 and finite, "
            f"count 2 or more, up to {_LONGEST}"
        )
    ratio = high / low
    return [float(f"{low * ratio ** (i / (count - 1)):.{_DIGITS}g}") for i in range(int(count))]


def _finite(*values: float) -> bool:
    """Whether all of them are numbers that a float can be."""
    try:
        return all(map(math.isfinite, values))
    except OverflowError:
        return False


def number(value: Any) -> Any:
    """``"2^-6"`` and ``"1e-3"`` as numbers (YAML takes both for text), also within lists; else ``value``."""
    if isinstance(value, list):
        return [number(inner) for inner in value]
    if not isinstance(value, str):
        return value
    power = _POWER.fullmatch(value.strip())
    if power:
        base = float(power[2]) if "." in power[2] else int(power[2])
        return (-1 if power[1] == "-" else 1) * _power(base, float(power[3]))
    return float(value) if _DECIMAL.fullmatch(value.strip()) else value


def _power(base: float, exponent: float) -> float:
    """A whole number where the base and the exponent are; exact where the exponent is whole."""
    try:
        if exponent != int(exponent):
            return float(f"{base**exponent:.{_DIGITS}g}")
        exact = isinstance(base, int) and exponent >= 0 and exponent * math.log2(max(base, 2)) < _MOST_BITS
        return base ** int(exponent) if exact else float(base) ** int(exponent)
    except OverflowError:
        return math.inf


# A config with them


def apply(
    config: "Namespace", point: Point, options: Mapping[str, Option], places: Places | None = None
) -> "Namespace":
    """A copy of a parsed config with the values of a point, each checked as the config's own are.

    A class given by its name keeps those arguments of the class that stood there which it has as well.

    Args:
        config: such as that of ``fit``.
        point: values by dotted key.
        options: what a key may begin with.
        places: :func:`places_of` the config, for whoever applies many points to it.

    Raises:
        UserError: a key that the config does not have, or a value that is not allowed there.
    """
    changed = copy.deepcopy(config)
    places = places or places_of(changed, options)
    for key, value in sorted(point.items(), key=lambda item: item[0].count(".")):  # classes first
        if _set(changed, short_key(key), value, places):
            places = places_of(changed, options)
    return changed


def places_of(config: "Namespace", options: Mapping[str, Option]) -> Places:
    """Which options there are at each key of a parsed config."""
    return Places(flat_settings(config.as_dict()), options)


def namespace(config: Any) -> Any:
    """A nested config as jsonargparse keeps it after parsing."""
    from jsonargparse import Namespace

    if isinstance(config, dict):
        return Namespace(**{key: namespace(value) for key, value in config.items()})
    return [namespace(value) for value in config] if isinstance(config, list) else config


def _set(config: "Namespace", key: str, value: Any, places: Places) -> bool:
    """Set one key; whether that may have changed which classes there are."""
    from jsonargparse import Namespace

    holder, parts = config, key.split(".")
    for n in range(len(parts)):
        place = ".".join(parts[:n])
        if isinstance(holder, list):
            if n == len(parts) - 1:
                raise UserError(f"{key}: not one value; name an option of it, {key}.OPTION")
            parts[n] = _number_of(parts[n], holder, place)
            holder = holder[int(parts[n])]
            continue
        part = parts[n]
        if isinstance(holder, dict):
            holder = _of_mapping(part, holder, place, n == len(parts) - 1)
            continue
        if not isinstance(holder, Namespace):
            first = f"; name a class for {place} first" if classes_in(places.option(place).hint) else ""
            shown = "null" if holder is None else holder
            raise UserError(f"{key}: {place} is {shown} in this config, so it has no {part}{first}")
        options = places.options_at(place) or {}
        if part not in options:
            raise UserError(no_such_option(part, place, options, places))
        holder = holder.get("init_args", holder)
        if n < len(parts) - 1:
            holder = holder.get(part)
    current = holder.get(parts[-1])
    if isinstance(current, Namespace) and "class_path" not in current:
        raise UserError(f"{key}: not one value; name an option of it, such as {key}.{min(vars(current))}")
    holder[parts[-1]] = _checked(key, value, current, options[parts[-1]].hint)
    return any(isinstance(value, Namespace | list) for value in (current, holder[parts[-1]]))


def _of_mapping(name: str, holder: dict[str, Any], place: str, last: bool) -> Any:
    """What stands under a name that the user has given.

    Raises:
        UserError: there is no such name, or the key ends with it.
    """
    if name not in holder:
        near = did_you_mean(name, list(holder))
        raise UserError(
            with_allowed(f"{place}.{name}: there is no {name} in this config{near}", list(holder))
        )
    if last:
        raise UserError(f"{place}.{name}: not one value; name an option of it, {place}.{name}.OPTION")
    return holder[name]


def _number_of(name: str, entries: Sequence[Any], place: str) -> str:
    """The number in a list of the class with this name.

    Raises:
        UserError: there is none, or there are two.
    """
    names = [entry.class_path.rpartition(".")[2] for entry in entries]
    if names.count(name) != 1:
        found = f"{names.count(name)} of" if name in names else "there is no"
        raise UserError(f"{place}.{name}: {found} {name} here; allowed: one of {', '.join(names) or 'none'}")
    return str(names.index(name))


def _checked(key: str, value: Any, current: Any, hint: Any) -> Any:
    """The value as jsonargparse reads it for a parameter with this annotation."""
    from jsonargparse import ArgumentError, Namespace

    try:
        if isinstance(current, Namespace) or not isinstance(value, bool | int | float):
            return parsed(value, hint, current if isinstance(current, Namespace) else None)
        return parsed_number(value, hint)
    except ArgumentError as error:
        needed = _needed(value, hint)
        if needed:
            written = f"{{class_path: {value}, init_args: {{{needed[0]}: ...}}}}"
            problem = f"{key}: {value} needs {', '.join(needed)}; write the value as {written}"
        else:
            problem = not_allowed(key, value, hint)
        raise UserError(problem) from error


def _needed(value: Any, hint: Any) -> list[str]:
    """The arguments without which a class that was given by its bare name cannot be built."""
    chosen = find_class(value, classes_in(hint)) if isinstance(value, str) else None
    if chosen is None:
        return []
    found = parameters(chosen)
    own = list(found)[arguments_of_callable(hint) :]
    return [name for name in own if found[name].required]
