"""A sweep file: an ordinary ``fit`` config and, in its section ``sweep:``, which runs and what to draw."""

import copy
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sgdlit import __version__
from sgdlit.config.files import read_config
from sgdlit.foundations.errors import UserError
from sgdlit.sweeps.options import SweepOptions, read_options

if TYPE_CHECKING:
    from jsonargparse import Namespace


_NO_FILE = "--config: missing; give a sweep file (--config FILE), such as those in configs/sweeps"


class SweepFile:
    """A sweep file with what the command line changes in it.

    Args:
        arguments: ``--config FILE``, ``--KEY VALUE`` of ``fit`` and ``--sweep.KEY VALUE``.
        parse_fit: from the arguments of ``fit`` to its checked config.

    Raises:
        UserError: neither a file nor a model is given, or a file cannot be read.
    """

    def __init__(self, arguments: Sequence[str], parse_fit: "Callable[[list[str]], Namespace]") -> None:
        self._parse_fit = parse_fit
        self.fit_arguments, self.section = _split(arguments)
        if not any(argument.startswith(("--config", "--model")) for argument in arguments):
            raise UserError(_NO_FILE)
        self._given = [read_config(f) for f in _values_of("--config", self.fit_arguments)]

    @property
    def inputs(self) -> str:
        """Fingerprint of all that decides which runs there are, as it was written."""
        runs = {name: (self.section or {}).get(name) for name in ("grids", "seeds")}
        configs = [{k: v for k, v in config.items() if k != "sweep"} for config in self._given]
        text = json.dumps([__version__, runs, configs, self.fit_arguments], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def name(self) -> str:
        names = [config["name"] for config in self._given if config.get("name")]
        return ([*names, *_values_of("--name", self.fit_arguments)] or ["run"])[-1]

    def read(self) -> "tuple[Namespace, SweepOptions]":
        """The parsed ``fit`` config and the section.

        Raises:
            UserError: a mistake in either.
        """
        config = self._parse_fit(self.fit_arguments)
        return config, read_options(self.section, config.seed_everything)


def _split(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any] | None]:
    """The arguments of ``fit``, and the section of all files with ``--sweep.KEY VALUE`` applied."""
    section: dict[str, Any] | None = None
    rest, changes, pending = [], [], list(arguments)
    for path in _values_of("--config", arguments):
        own = read_config(path).get("sweep")
        if own is not None and not isinstance(own, Mapping):
            raise UserError(f"sweep: {own!r} is not allowed in {path}; allowed: options, such as grids")
        if own is not None:
            section = _merged(section or {}, own)
    while pending:
        name, equals, value = pending.pop(0).partition("=")
        if name.startswith("--sweep."):
            if not equals and not pending:
                raise UserError(f"{name}: the value is missing")
            changes.append((name[2:].split(".")[1:], value if equals else pending.pop(0)))
        else:
            rest.append(name + equals + value)
    for keys, value in changes:
        section = _merged(section or {}, _nested(keys, _yaml(value)))
    return rest, section


def _values_of(option: str, arguments: Sequence[str]) -> list[str]:
    following = [b for a, b in itertools.pairwise(arguments) if a == option]
    joined = [a.partition("=")[2] for a in arguments if a.startswith(f"{option}=")]
    return following + joined


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(old))
    for key, value in new.items():
        both = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _nested(keys: Sequence[str], value: Any) -> Any:
    return {keys[0]: _nested(keys[1:], value)} if keys else value


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
