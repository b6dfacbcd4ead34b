"""What is wrong with a config or a command line: the key, the value, the nearest name, what is allowed.

jsonargparse reports a mistake as the tree of everything that it tried, without the whole key. Here each
setting that the user gave is looked at by itself, under its short key and beside the options of the class at
that place: is there such an option, and does it take the value? jsonargparse's own words are shown only where
no setting alone is wrong.
"""

import re
import textwrap
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgdlit.config.files import read_settings
from sgdlit.config.options import Option, Places, class_names, classes_in, is_abstract
from sgdlit.config.values import allowed_values, fits, not_allowed
from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed

_LONGEST, _MOST_LINES = 330, 12
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
    for explain in (_stray, _unknown_key, _abstract, _missing, _wrong_value):
        text = explain(message, places)
        if text:
            return text
    return _without_noise(message)


def _stray(message: str, places: Places) -> str | None:
    """A word that belongs to no option, or an option without its value."""
    word = re.match(r"unrecognized arguments: ([^-\s]\S*)", message)
    if word:
        return f"{word[1]}: not understood; options begin with --, as in --trainer.max_steps 100"
    alone = re.match(r"argument --?(\S+): expected (?:one|at least one) argument", message)
    if not alone:
        return None
    option = places.option(alone[1])
    return with_allowed(f"{alone[1]}: the value is missing", allowed_values(option.hint) if option else [])


def _unknown_key(message: str, places: Places) -> str | None:
    for key in places.settings:
        parts = key.split(".")
        for n, part in enumerate(parts):
            place = ".".join(parts[:n])
            options = places.options_at(place)
            if options is None:
                break
            if part in options or part.isdigit() or not re.search(rf"\b{re.escape(part)}\b", message):
                continue
            if part == "sweep":
                command = "python -m sgdlit sweep --config FILE"
                return f"sweep: this config describes many runs; run them with: {command}"
            return no_such_option(part, place, options, places)
    return None


def no_such_option(part: str, place: str, options: Mapping[str, Option], places: Places) -> str:
    """That ``place`` has no option ``part``, with the nearest name."""
    key = f"{place}.{part}" if place else part
    of = f" of {places.class_at(place).__name__}" if place else ""
    meant = did_you_mean(part, [*options, *(["init_args", "class_path"] if place else [])])
    if not meant:
        elsewhere = [f"{k}.{part}" for k in places.all_keys() if k and part in (places.options_at(k) or {})]
        meant = f"; did you mean {elsewhere[0]}?" if elsewhere else ""
    return with_allowed(f"{key}: there is no such option{of}{meant}", sorted(options) or ["none"])


def _abstract(message: str, places: Places) -> str | None:
    """Options of a class that was not named, where only its subclasses can be built."""
    for place in places.all_keys()[1:] if "is abstract" in message else ():
        chosen = places.class_at(place)
        if chosen is not None and is_abstract(chosen):
            names = class_names([chosen])
            problem = (
                f"{place}: which {chosen.__name__}? Name the class before its options, such as --{place} "
            )
            return with_allowed(problem + (names or ["CLASS"])[0], names)
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
        for name in missing:
            key = f"{place}.{name}".strip(".")
            if name in options and options[name].required and not places.is_given(key):
                owner = f", {places.class_at(place).__name__} needs it" if place else ""
                return with_allowed(f"{key}: missing{owner}", allowed_values(options[name].hint))
    return None


def _wrong_value(message: str, places: Places) -> str | None:
    for key in sorted(places.settings, key=lambda key: -key.count(".")):
        option, value = places.option(key), places.settings[key]
        in_list = key.rpartition(".")[2].isdigit()
        if option is None or (in_list and not classes_in(option.hint)):
            continue  # the list as a whole is looked at
        if not fits(value, option.hint):
            return not_allowed(key, value, option.hint)
    return _untyped_value(message, places)


def _untyped_value(message: str, places: Places) -> str | None:
    """A value of a positional argument, or of an option whose annotation is known to jsonargparse alone."""
    found = re.match(r'Parser key "([^"]+)":', message)
    if not found:
        return None
    key, got = found[1], re.search(r"Got value: (.*)|Given value: (.*)", message)
    value = places.settings.get(key, got and (got[1] or got[2]))
    option = places.option(key)
    if option is not None and option.hint is not None:
        return not_allowed(key, value, option.hint)
    types = dict.fromkeys(re.findall(r"Expected a <class '(\w+)'>", message))
    words = ["null" if name == "NoneType" else name for name in types]
    return with_allowed(f"{key}: {value!r} is not allowed", words) if words else None


def _without_noise(message: str) -> str:
    """A message that no pattern fits, without the alternatives that nobody meant."""
    noise = (
        "Does not validate|Subtypes:|Errors:|- Expected a <class 'NoneType'>|Given value|- Expected a path"
    )
    lines = [line.strip() for line in message.splitlines()]
    kept = [textwrap.shorten(x, _LONGEST) for x in dict.fromkeys(lines) if x and not re.match(noise, x)]
    return "\n".join(kept[:_MOST_LINES])


def building_error(
    error: Exception, arguments: Sequence[str], options: Mapping[str, Option]
) -> UserError | None:
    """What a class refused when it was built, or None where ``error`` is a fault of the program.

    A UserError keeps its text, with the whole key before it; of other errors that a constructor raises for
    wrong arguments the place in the code is told, since the class may be the user's own.
    """
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None and chain[-1].__cause__ not in chain:
        chain.append(chain[-1].__cause__)
    own = next((e for e in chain if isinstance(e, UserError)), None)
    if own is not None:
        key, colon, rest = str(own).partition(":")
        return UserError(f"{Places(read_settings(arguments), options).whole_key(key)}{colon}{rest}")
    cause = next(e for e in chain if not str(e).startswith("Does not validate"))
    if not isinstance(cause, _INSTANTIATION) and type(cause).__name__ != "MisconfigurationException":
        return None
    raised = traceback.extract_tb(cause.__traceback__)[-1:]
    where = "".join(
        f" at {f.filename}:{f.lineno}" for f in raised if "lightning" not in Path(f.filename).parts
    )
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
