"""Dotted keys: every option of a config has one, ``model.network.widths``, however it was written."""

from collections.abc import Iterator, Mapping
from typing import Any

_OF_TRAINER = ("max_steps", "max_epochs", "precision", "accumulate_grad_batches", "gradient_clip_val")


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


def settings_of_run(given: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the numbers of a run, under short keys: of an ensemble what its members share.

    Args:
        given: the config of the run.
    """
    axes = {short_key(key) for entry in given.get("ensemble") or [] for key in entry}
    parts = {name: given.get(name) for name in ("seed_everything", "init_seed", "model", "data")}
    parts["trainer"] = {name: given["trainer"].get(name) for name in _OF_TRAINER}
    flat = flat_settings(parts)
    plain = {key: value for key, value in flat.items() if value is not None and not isinstance(value, list)}
    lists = {
        key: str(value) for key, value in flat.items() if isinstance(value, list) and f"{key}.0" in plain
    }
    entries = [f"{key}." for key in lists]
    return {
        key: value
        for key, value in (plain | lists).items()
        if key not in axes and not any(key.startswith(entry) for entry in entries)
    }


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
