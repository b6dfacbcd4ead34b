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

from sgdlit.config.files import read_settings
from sgdlit.config.options import (
    Option,
    Places,
    class_names,
    classes_in,
    element_of,
    is_abstract,
    takes_lists_only,
)
from sgdlit.config.shipped import find
from sgdlit.config.values import allowed_values, fits, not_allowed
from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed

_LONGEST = 330
_NO_MODEL = (
    "model: missing; give a config that names model and data (--config configs/NAME.yaml), "
    "or the folder of a run (fit --resume DIR; validate, test, predict --run DIR)"
)
_SWEEP = "sweep: this config describes many runs; run them with: python -m sgdlit sweep --config FILE"
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
    stray = re.match(r"unrecognized arguments: ([^-\s]\S*)", message)
    if stray:
        known = find(stray[1]) is not None or Path(stray[1]).is_file()
        way_out = f"did you mean --config {stray[1]}?" if known else "options begin with --, as --name mine"
        return f"{stray[1]}: not understood; {way_out}"
    places = Places(read_settings(arguments), options)
    found = _ambiguous_name(message, places) or _wrong_name(message, places) or _wrong_value(message, places)
    unknown = re.match(r"(\w+): there is no such option", found or "")
    if found and unknown and any(given.partition("=")[0] == f"--{unknown[1]}" for given in arguments):
        found = re.sub(r"did you mean ", "did you mean --", f"--{found}")
    return found or textwrap.shorten(re.sub("^argument (--)?", "", message), _LONGEST)


def _ambiguous_name(message: str, places: Places) -> str | None:
    """The short name of a class that several libraries have, which are loaded."""
    found = re.search(r"Multiple subclasses with name (\w+)\..*?: (\S+(?:, \S+)*)\.", message)
    key = next((key for key, value in places.settings.items() if found and value == found[1]), None)
    if found is None or key is None:
        return None
    return with_allowed(f"{key}: {found[1]!r} is the name of several classes", found[2].split(", "))


def _wrong_name(message: str, places: Places) -> str | None:
    """An option that there is not, one that is missing, or the options of a class that was not named."""
    required = re.search(r"arguments are required: (.+)", message)
    missing = required[1].strip().split(", ") if required else []
    needed = {name.rpartition(".")[2] for name in missing}
    if "model" in needed or ("network" in needed and not places.is_given("model")):
        return _NO_MODEL
    for place in places.all_keys():
        options, chosen = places.options_at(place) or {}, places.class_at(place)
        if chosen is not None and _lacks_class(place, chosen, options, places):
            return with_allowed(
                f"{place}: missing, the class comes before its options", class_names([chosen])
            )
        for part in places.parts_below(place) if options else ():
            if part not in options and re.search(rf"\b{re.escape(part)}\b", message):
                return _SWEEP if part == "sweep" else no_such_option(part, place, options, places)
        for name in missing:
            key = f"{place}.{name}".strip(".")
            if name in options and options[name].required and not places.is_given(key):
                owner = f", {chosen.__name__} needs it" if chosen else ""
                return with_allowed(f"{key}: missing{owner}", allowed_values(options[name].hint))
    return None


def _lacks_class(place: str, chosen: type, options: Mapping[str, Option], places: Places) -> bool:
    """Whether options are given at a place without a class, whose base has none or cannot be built."""
    given = bool(places.parts_below(place)) and place not in places.settings
    return given and (is_abstract(chosen) or not options)


def no_such_option(part: str, place: str, options: Mapping[str, Option], places: Places) -> str:
    """That ``place`` has no option ``part``, with the nearest name, there or elsewhere."""
    chosen = places.class_at(place)
    problem = f"{place}.{part}".strip(".") + ": there is no such option"
    meant = did_you_mean(part, [*options, *(["init_args", "class_path"] if chosen else [])])
    elsewhere = [f"{k}.{part}" for k in places.all_keys()[1:] if part in (places.options_at(k) or {})]
    if not meant and elsewhere:
        meant = f"; did you mean {elsewhere[0]}?"
    owner = f" of {chosen.__name__}" if chosen else ""
    return with_allowed(problem + owner + meant, sorted(options) or ["none"])


def _wrong_value(message: str, places: Places) -> str | None:
    for key in sorted(places.settings, key=lambda key: -key.count(".")):
        option, value = places.option(key), places.settings[key]
        if option is None:
            continue
        in_list = key.rpartition(".")[2].isdigit()  # the list as a whole is looked at, unless it has classes
        hint = element_of(option.hint) if in_list else option.hint
        if not (in_list and not classes_in(hint)) and not fits(value, hint):
            return not_allowed(key, value, hint)
    for place in places.all_keys()[1:]:
        holder = places.option(place)
        if holder and takes_lists_only(holder.hint) and places.parts_below(place):
            return with_allowed(
                f"{place}: a mapping is not allowed, but a list of them", allowed_values(holder.hint)
            )
    part = re.search(r"NestedArg\(key='([^'.]+\.[^']+)'", message)
    for key in places.settings if part else ():
        if part and key.endswith(f".{part[1]}"):
            whole, (name, _, rest) = key.removesuffix(f".{part[1]}"), part[1].partition(".")
            written = f"--{whole} '{{{name}: {{{rest}: ...}}}}'"
            return f"{key}: not understood on a command line; allowed: {written}, or a file"
    # A positional argument, or an option whose annotation jsonargparse alone knows.
    found = re.match(r'Parser key "([^"]+)":(?:.|\n)*?(?:Got value|Given value): (.*)', message)
    if found is None:
        return None
    option = places.option(found[1])
    if option and option.hint is not None:
        return not_allowed(found[1], found[2], option.hint)
    types = dict.fromkeys(re.findall(r"Expected a <class '(\w+)'>", message))
    words = ["null" if name == "NoneType" else name for name in types]
    if part := re.match(r"\W?NestedArg\(key='([^']+)'", found[2]):
        return with_allowed(f"{found[1]}.{part[1]}: there is no such option of {found[1]}, a value", words)
    return with_allowed(f"{found[1]}: {found[2]!r} is not allowed", words) if words else None


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
        return UserError(f"{Places(read_settings(arguments), options).whole_key(key, rest)}{colon}{rest}")
    cause = next(e for e in chain if not str(e).startswith("Does not validate"))
    if not isinstance(cause, _INSTANTIATION) and type(cause).__name__ != "MisconfigurationException":
        return None
    raised = traceback.extract_tb(cause.__traceback__)[-1:]
    settings = read_settings(arguments)
    owner = _place_of(cause, settings) or _option_of_trainer(str(cause), settings)
    where = "".join(
        f" at {f.filename}:{f.lineno}" for f in raised if "lightning" not in Path(f.filename).parts
    )
    return UserError(f"{owner}{cause}\n({type(cause).__name__}{where}, while the config was built)")


def _option_of_trainer(message: str, settings: Mapping[str, object]) -> str:
    """``KEY: VALUE is not allowed: `` of the one option of Lightning's Trainer that its words are about."""
    given = {key: value for key, value in settings.items() if re.fullmatch(r"trainer\.\w+", key)}
    named = [key for key in given if re.search(rf"\b{key.partition('.')[2]}\b", message)]
    quoted = [key for key, value in given.items() if f"'{value}'" in message]
    key = next((keys[0] for keys in (named, quoted) if len(keys) == 1), None)
    return "" if key is None else f"{key}: {given[key]} is not allowed: "


def _place_of(error: BaseException, settings: Mapping[str, object]) -> str:
    """``KEY: `` of the class whose constructor raised an error; nothing where a config does not name it."""
    frames = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [type(built).__name__ for built in frames if built is not None]
    for key, value in settings.items():
        if isinstance(value, str) and value.rpartition(".")[2] in names:
            return f"{key}: "
    return ""
