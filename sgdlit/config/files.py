"""What the user gave: the options of YAML files and of a command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sgdlit.config.keys import flat_settings, short_key
from sgdlit.config.shipped import known_names
from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed

_MOST_VALUES = 1_000_000
_ALLOWED = "a YAML file of options, or the name of one that `python -m sgdlit configs` lists"


def read_config(name: str) -> dict[str, Any]:
    """The options of a config file, as they are written.

    Raises:
        UserError: it is missing, a folder, unreadable, no YAML, or no mapping.
    """
    allowed = f"allowed: {_ALLOWED}"
    if not name:
        raise UserError(f"config: the name of a file is missing\n{allowed}")
    try:
        text = Path(name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        folder = Path(name).parent
        there = sorted(str(path) for path in folder.glob("*.yaml")) if folder.is_dir() else []
        near = did_you_mean(name, [*there, *known_names()])
        raise UserError(f"config: {name!r} does not exist{near}\n{allowed}") from error
    except IsADirectoryError as error:
        inside = sorted(str(path) for path in Path(name).glob("*.yaml"))
        raise UserError(with_allowed(f"config: {name!r} is a folder", inside or [_ALLOWED])) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"config: {name!r} cannot be read: {reason}\n{allowed}") from error
    try:
        _check_nodes(name, yaml.compose(text, yaml.SafeLoader))
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(
            f"config: {name!r} is not valid YAML{where}: {getattr(error, 'problem', error)}"
        ) from error
    if not isinstance(content, dict):
        kind = "nothing" if content is None else "a list" if isinstance(content, list) else "text"
        raise UserError(f"config: {name!r} holds {kind}, not options\n{allowed}")
    return content


def _check_nodes(name: str, root: yaml.Node | None) -> None:
    """Refuse keys that stand twice, of which one would be lost, and aliases that grow without bound.

    Raises:
        UserError: naming the key and its line.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        """How many values there are below a node, with aliases written out."""
        if id(node) in sizes:
            return sizes[id(node)]
        sizes[id(node)] = _MOST_VALUES + 1  # of a node that holds itself
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            _check_keys(name, node)
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        sizes[id(node)] = 1 + sum(map(size, parts))
        return sizes[id(node)]

    if root is not None and size(root) > _MOST_VALUES:
        raise UserError(
            f"config: {name!r} holds more than {_MOST_VALUES} values, with its aliases written out"
        )


def _check_keys(name: str, node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UserError(
                    f"config: {name!r}, line {line}: {key.value!r} stands there twice; allowed: once"
                )
            seen.add(key.value)


def read_settings(arguments: Sequence[str]) -> dict[str, Any]:
    """Every option that a command line gives, under its short key; later ones replace earlier ones.

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
            settings |= flat_settings(read_config(value), within=key)
        else:
            settings |= _given(key, value)
    return settings


def _given(key: str, value: str) -> dict[str, Any]:
    """What the command line gives at a key: each option of a mapping that is written out, or the value."""
    if value.startswith(("{", "[{")):
        try:
            content = yaml.safe_load(value)
        except yaml.YAMLError:
            content = None
        if content and all(isinstance(name, str | dict) for name in content):
            return flat_settings(content, within=key)
    return {short_key(key): value}
