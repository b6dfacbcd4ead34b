"""Dotted keys: every option of a config has one, ``model.network.widths``, however it was written."""

from collections.abc import Iterator, Mapping
from typing import Any


def short_key(key: str) -> str:
    """``model.network.widths`` for ``model.init_args.network.init_args.widths``."""
    return ".".join(part for part in key.split(".") if part not in ("init_args", "class_path", "dict_kwargs"))


def flat_settings(config: Mapping[str, Any] | list[Any], within: str = "") -> dict[str, Any]:
    """Every value of a nested config under its short key; a class path under the key of its place.

    Args:
        config: as it was read from YAML; a list at a key.
        within: the key of the place at which the config stands.
    """
    return dict(_flat(within, config))


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if key and (not isinstance(value, dict) or not value):
        yield short_key(key), value
    if isinstance(value, list):
        value = dict(enumerate(value))
    for name, entry in value.items() if isinstance(value, dict) else ():
        yield from _flat(f"{key}.{name}" if key else str(name), entry)


def value_at(config: dict[str, Any], key: str) -> Any:
    """The value of a dotted key, in which ``init_args`` may be left out; None where there is none.

    An entry of a list goes by its number, or by the name of its class.
    """
    found: Any = config
    for part in key.split("."):
        name: int | str = part
        if isinstance(found, list):
            found = dict(enumerate(found)) | {
                entry["class_path"].rpartition(".")[2]: entry for entry in found
            }
            name = int(part) if part.isdigit() else part
        if not isinstance(found, dict):
            return None
        inner = found.get("init_args") or {}
        found = found[name] if name in found else inner.get(name)
    return found
