"""What is left of a class when another takes its place in a config.

``--model.optimizer GSM`` after a config with ``SGD`` keeps the ``lr`` that the config gives. jsonargparse
keeps the defaults of ``SGD`` as well, where ``GSM`` has an option of the same name: a momentum of 0 that
nobody asked for.
"""

import re
from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace

from sgdlit.config.options import find_class, parameters

_PLAIN = (bool, int, float, str, tuple, type(None))


def forget_defaults_of_others(node: Namespace, settings: Mapping[str, Any], place: str) -> None:
    """Give every option that was not set the default of its own class, below a place of the config.

    Args:
        node: what stands at the place; it is changed.
        settings: what the user gave, under short keys.
        place: short key of the node.
    """
    given = settings.get(place)
    if given is not None and not (isinstance(given, str) and re.fullmatch(r"[\w.]+", given)):
        return  # it was given as a whole, with its options
    options, path = node.get("init_args"), node.get("class_path")
    if not isinstance(options, Namespace):
        return
    chosen = find_class(path, [object]) if given is not None and path else None
    known = parameters(chosen) if chosen is not None else {}
    for name, value in vars(options).items():
        key = f"{place}.{name}"
        if isinstance(value, Namespace):
            forget_defaults_of_others(value, settings, key)
        elif (
            name in known
            and not known[name].required
            and not any(one == key or one.startswith(f"{key}.") for one in settings)
        ):
            default = known[name].default
            if isinstance(value, _PLAIN) and isinstance(default, _PLAIN) and value != default:
                options[name] = default
