"""What is wrong with a config or a command line: the key, the value, what is allowed, the nearest name.

jsonargparse reports a mistake as the tree of everything that it tried, without the whole key. Here the
mistake is looked up in what the user gave: every option of the config files and the command line under its
short key (``model.network.width``, whether or not ``init_args`` was written), beside the options that the
class at that place accepts.
"""

import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sgdlit.config.options import (
    Option,
    alternatives,
    arguments_of_callable,
    class_names,
    classes_in,
    find_class,
    parameters,
)
from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed

_LONGEST = 330
_MOST_LINES = 12
_INSTANTIATION = (ValueError, TypeError, AttributeError, KeyError, RuntimeError, ImportError, OSError)


def readable(message: str, arguments: Sequence[str], options: Mapping[str, Option]) -> str:
    """What jsonargparse complains of, in words for people.

    Args:
        message: the text of its error.
        arguments: the command line after the command.
        options: the options of the command itself (``model``, ``trainer`` ...).

    Raises:
        UserError: one of the config files cannot be read.
    """
    places = Places(read_settings(arguments), options)
    for explain in (_unknown_key, _class_path, _abstract, _missing, _no_value, _wrong_value):
        text = explain(message, places)
        if text:
            return text
    return _without_noise(message)


def building_error(
    error: Exception, arguments: Sequence[str], options: Mapping[str, Option]
) -> UserError | None:
    """What a class refused when it was built, or None where ``error`` is a fault of the program.

    A UserError keeps its text, with the whole key before it; of other errors that a constructor raises for
    wrong arguments the place in the code is told, since the class may be the user's own.
    """
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__
    own = next((e for e in chain if isinstance(e, UserError)), None)
    if own is not None:
        places = Places(read_settings(arguments), options)
        key, colon, rest = str(own).partition(":")
        return UserError(f"{places.locate(key) or key}{colon}{rest}")
    cause = next(e for e in chain if not str(e).startswith("Does not validate"))
    if not isinstance(cause, _INSTANTIATION) and type(cause).__name__ != "MisconfigurationException":
        return None
    traceback = cause.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    file = traceback.tb_frame.f_code.co_filename if traceback else ""
    where = f" at {file}:{traceback.tb_lineno}" if file and "lightning" not in Path(file).parts else ""
    return UserError(f"{cause}\n({type(cause).__name__}{where}, while the config was built)")


def check_values(config: Mapping[str, Any]) -> None:
    """Refuse numbers and names of the command itself that Lightning would take and stumble over later.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    trainer, name, seed = config["trainer"], config["name"], config["seed_everything"]
    for key, least in (("accumulate_grad_batches", 1), ("log_every_n_steps", 1), ("gradient_clip_val", 0)):
        if trainer[key] is not None and trainer[key] < least:
            raise UserError(f"trainer.{key}: {trainer[key]} is not allowed; allowed: {least} or more")
    interval = trainer["val_check_interval"]
    if isinstance(interval, int | float) and interval <= 0:
        raise UserError(
            f"trainer.val_check_interval: {interval} is not allowed; allowed: 1 or more (batches), or a part "
            "of an epoch between 0.0 and 1.0"
        )
    if seed is False or not 0 <= seed < 2**32:
        raise UserError(f"seed_everything: {seed} is not allowed; allowed: 0 to {2**32 - 1}")
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"name: {name!r} is not allowed; allowed: the name of a folder to be made in logs")


def read_settings(arguments: Sequence[str]) -> dict[str, Any]:
    """Every option that was given, under its short key; later ones replace earlier ones.

    Raises:
        UserError: a config file is missing, a folder, unreadable, no YAML, or no mapping.
    """
    settings: dict[str, Any] = {}
    pending = list(arguments)
    while pending:
        name, equals, value = pending.pop(0).partition("=")
        if not name.startswith("--"):
            continue
        if not equals and pending and not pending[0].startswith("--"):
            value = pending.pop(0)
        key = name[2:].rstrip("+")
        if key == "config":
            settings |= flat_settings(read_config(value))
        elif value.endswith((".yaml", ".yml", ".json")) and Path(value).is_file():
            settings |= dict(_flat(short_key(key), read_config(value)))
        else:
            settings[short_key(key)] = value
    return settings


def short_key(key: str) -> str:
    """``model.network.width`` for ``model.init_args.network.init_args.width``."""
    return ".".join(part for part in key.split(".") if part not in ("init_args", "class_path", "dict_kwargs"))


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every value of a nested config under its short key; a class path under the key of its place."""
    return dict(_flat("", config))


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if key and (not isinstance(value, dict) or not value):
        yield short_key(key), value
    if isinstance(value, list):
        value = dict(enumerate(value))
    for name, entry in value.items() if isinstance(value, dict) else ():
        yield from _flat(f"{key}.{name}" if key else str(name), entry)


def read_config(name: str) -> dict[str, Any]:
    """The options of a config file, as they are written.

    Raises:
        UserError: it is missing, a folder, unreadable, no YAML, or no mapping.
    """
    allowed = "allowed: a YAML file of options, such as those in configs/"
    if not name:
        raise UserError(f"config: the name of a file is missing\n{allowed}")
    try:
        text = Path(name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        folder = Path(name).parent
        there = sorted(str(path) for path in folder.glob("*.yaml")) if folder.is_dir() else []
        raise UserError(f"config: {name!r} does not exist{did_you_mean(name, there)}\n{allowed}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"config: {name!r} cannot be read: {reason}\n{allowed}") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(
            f"config: {name!r} is not valid YAML{where}: {getattr(error, 'problem', error)}"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"config: {name!r} holds a {type(content).__name__}, not options\n{allowed}")
    return content


class Places:
    """The settings that were given, and which options and classes there are at each key."""

    def __init__(self, settings: dict[str, Any], options: Mapping[str, Option]) -> None:
        self.settings, self.options = settings, options

    def options_at(self, key: str) -> Mapping[str, Option] | None:
        """The options of the class at a key; None where no class is known there."""
        if not key:
            return self.options
        chosen, option = self.class_at(key), self.option(key)
        if chosen is None:
            return None
        found = parameters(chosen)
        filled = arguments_of_callable(option.hint) if option else 0
        return {name: found[name] for name in list(found)[filled:]}

    def option(self, key: str) -> Option | None:
        parent, _, name = key.rpartition(".")
        if name.isdigit():
            return self.option(parent)
        return (self.options_at(parent) or {}).get(name)

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

    def is_given(self, key: str) -> bool:
        return any(given == key or given.startswith(f"{key}.") for given in self.settings)

    def all_keys(self) -> list[str]:
        """All places that have options of their own, outermost first."""
        given = {".".join(key.split(".")[:n]) for key in self.settings for n in range(1, key.count(".") + 2)}
        return ["", *sorted({*given, *self.options}, key=lambda key: (key.count("."), key))]

    def locate(self, name: str, value: str | None = None, within: str = "") -> str | None:
        """The whole key of a setting whose last parts are ``name``; one with that value, if any has it."""
        name = short_key(name)
        found = [k for k in self.settings if f".{k}".endswith(f".{name}") and f"{k}.".startswith(within)]
        same = [k for k in found if value is not None and str(self.settings[k]) == value]
        return (same or found or [None])[-1]


def _allowed(hint: Any) -> list[str]:
    """The values of a type, in words."""
    words: list[str] = []
    for part in alternatives(hint):
        if typing.get_origin(part) is typing.Literal:
            words += [str(value) for value in typing.get_args(part)]
        elif part is bool:
            words += ["true", "false"]
        elif part is type(None):
            words.append("null")
        elif part in (int, float, str):
            words.append(part.__name__)
        elif classes_in(part):
            names, base = class_names(classes_in(part)), classes_in(part)[0].__name__
            words += [*names, f"the class path of {'another' if names else 'some'} {base}"]
        elif part is not None:
            words.append(part.__name__ if type(part) is type else str(part).replace("typing.", ""))
    return [w for w in dict.fromkeys(words) if w != "null"] + ["null"] * ("null" in words)


def _unknown_key(message: str, places: Places) -> str | None:
    found = re.search(r"(?:Option|does not accept option) '([^']+)'|unrecognized arguments: (\S+)", message)
    if not found:
        return None
    if found[2] and not found[2].startswith("--"):
        return f"{found[2]}: not understood; options begin with --, as in --trainer.max_steps 100"
    name = short_key(found[1] or found[2][2:].partition("=")[0])
    if name.split(".")[0] == "sweep":
        return "sweep: this config describes many runs; run them with: python -m sgdlit sweep --config FILE"
    given = places.locate(name) or name
    for n in range(given.count(".") + 1):
        place, part = ".".join(given.split(".")[:n]), given.split(".")[n]
        options = places.options_at(place)
        if options is not None and part not in options and not part.isdigit():
            return no_such_option(part, place, options, places)
    return f"{given}: there is no such option"


def no_such_option(part: str, place: str, options: Mapping[str, Option], places: Places) -> str:
    """That ``place`` has no option ``part``, with the nearest name."""
    key = f"{place}.{part}" if place else part
    of = f" of {places.class_at(place).__name__}" if place else ""
    meant = did_you_mean(part, [*options, *(["init_args", "class_path"] if place else [])])
    if not meant:
        elsewhere = [f"{k}.{part}" for k in places.all_keys() if k and part in (places.options_at(k) or {})]
        meant = f"; did you mean {elsewhere[0]}?" if elsewhere else ""
    return with_allowed(f"{key}: there is no such option{of}{meant}", sorted(options) or ["none"])


def _class_path(message: str, places: Places) -> str | None:
    found = re.search(r"Problem with given class_path '([^']+)':\s*(.+)", message)
    bare = re.findall(r"Expected a dot import path string: (.+)", message)
    if not found and not bare:
        return None
    name, reason = (found[1], found[2]) if found else (bare[0], "")
    key = places.locate(_leaf(message), value=name)
    option = places.option(key) if key else None
    if option is None or str(places.settings[key]) != name:
        key = next((k for k, value in places.settings.items() if str(value) == name), None)
        option = places.option(key) if key else None
    if key is None or option is None:
        return None
    bases = classes_in(option.hint)
    if any(part in (int, float, str, bool) for part in alternatives(option.hint)):
        reason = ""  # a class is only one of the things that may stand here
    return with_allowed(
        f"{key}: {name!r} is not {'allowed' if not reason else 'a class that can be imported'}"
        f"{f' ({reason.rstrip()})' if reason else ''}{_meant_class(name, bases)}",
        _allowed(option.hint),
    )


def _meant_class(name: str, bases: Sequence[type]) -> str:
    module, _, last = name.rpartition(".")
    inside = sys.modules.get(module)
    if inside is not None:
        there = [n for n, v in vars(inside).items() if inspect.isclass(v) and issubclass(v, tuple(bases))]
        meant = did_you_mean(last, there)
        if meant:
            return meant.replace("mean ", f"mean {module}.")
    offered, known = class_names(bases), class_names(bases, offered=False)
    if last in offered and module:
        return f"; did you mean {last}?"
    return did_you_mean(last, offered) or did_you_mean(last, known)


def _abstract(message: str, places: Places) -> str | None:
    found = re.search(r"Expected an instantiatable class, but (\S+) is abstract", message)
    if not found:
        return None
    name = found[1].rpartition(".")[2]
    for place in places.all_keys()[1:]:
        chosen = places.class_at(place)
        if chosen is not None and chosen.__name__ == name:
            names = class_names([chosen])
            first = f"--{place} {names[0]}" if names else f"--{place} CLASS"
            problem = f"{place}: which {name}? Name the class before its options, such as {first}"
            return with_allowed(problem, names)
    return None


def _missing(message: str, places: Places) -> str | None:
    found = re.search(r"the following arguments are required: (.+)", message)
    if not found:
        return None
    missing = found[1].strip().split(", ")
    if any(name.rpartition(".")[2] == "model" for name in missing):
        return (
            "model: missing; give a config that names model and data (--config configs/NAME.yaml), "
            "or the folder of a run (fit --resume DIR; validate, test, predict --run DIR)"
        )
    for place in places.all_keys():
        options = places.options_at(place) or {}
        needed = [name for name, option in options.items() if option.required]
        lacking = [name for name in needed if not places.is_given(f"{place}.{name}".strip("."))]
        if lacking and set(missing) <= set(needed):
            owner = f", {places.class_at(place).__name__} needs it" if place else ""
            name = next((name for name in missing if name in lacking), lacking[0])
            problem = f"{place}.{name}".strip(".") + f": missing{owner}"
            return with_allowed(problem, _allowed(options[name].hint))
    return None


def _no_value(message: str, places: Places) -> str | None:
    found = re.search(r"argument --?(\S+): expected (?:one|at least one) argument", message)
    if not found:
        return None
    option = places.option(short_key(found[1]))
    return with_allowed(f"{found[1]}: the value is missing", _allowed(option.hint) if option else [])


def value_error(key: str, value: Any, hint: Any) -> str:
    """That a key with this annotation does not take the value, with what it does take."""
    allowed = _allowed(hint)
    return with_allowed(f"{key}: {value!r} is not allowed{did_you_mean(str(value), allowed)}", allowed)


def _leaf(message: str) -> str:
    keys = re.findall(r'Parser key "([^"]+)"', message)
    return keys[-1] if keys else ""


def _wrong_value(message: str, places: Places) -> str | None:
    keys = re.findall(r'Parser key "([^"]+)"', message)
    value = re.search(r"(?:Got value|Given value): (?:NestedArg\(.*val=)?(.*?)\)?$", message, re.MULTILINE)
    if not keys or not value:
        return None
    text = value[1].strip("'\"")
    key = places.locate(keys[-1], text, within=keys[0]) or short_key(keys[-1])
    text, option = str(places.settings.get(key, text)), places.option(key)
    allowed = _allowed(option.hint) if option else []
    allowed = allowed or _expected(message)
    return with_allowed(f"{key}: {text!r} is not allowed{did_you_mean(text, allowed)}", allowed)


def _expected(message: str) -> list[str]:
    """The types that a message names."""
    names = re.findall(r"Expected a (?:<class '([^']+)'>|typing\.Literal\[([^\]]+)\])", message)
    words = [word.strip("' ") for cls, values in names for word in (cls or values).split(",")]
    return [{"NoneType": "null"}.get(word, word) for word in dict.fromkeys(words)]


def _without_noise(message: str) -> str:
    """A message that no pattern fits, without the alternatives that nobody meant."""
    noise = (
        "Does not validate|Subtypes:|Errors:|- Expected a <class 'NoneType'>|Given value|- Expected a path"
    )
    lines = [line.strip() for line in message.splitlines()]
    kept = [textwrap.shorten(x, _LONGEST) for x in dict.fromkeys(lines) if x and not re.match(noise, x)]
    return "\n".join(kept[:_MOST_LINES])
