"""The argument parser of every command that is not one of Lightning's (those have ``cli/fit.py``).

It is jsonargparse's, which reads types, dataclasses and YAML files and imports no torch, with three changes:
a mistake is a :class:`UserError` that names the option, the value, the nearest name and what is allowed; an
option is never abbreviated; and options that belong to another parser can be handed on.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace

from sgdlit.config.options import Option, parameters
from sgdlit.foundations.errors import UserError


class CommandParser:
    """A parser whose mistakes are for people.

    Values with few alternatives are declared as ``type=Literal["a", "b"]``, and not with ``choices``.

    Args:
        command: name of the command, such as ``data``.
        description: what it does, in a sentence.
        usage: the line of ``--help`` that says how it is called, where it cannot be made from the options.
    """

    def __init__(self, command: str, description: str, usage: str | None = None) -> None:
        self._options: dict[str, Option] = {}
        self._flags: dict[str, str] = {}  # what the user writes, by option; positional arguments have none
        self._words: dict[str, str] = {}  # what a required text is, for a message that it is missing
        self._reads_files = False
        self._parser = ArgumentParser(
            prog=f"python -m sgdlit {command}",
            description=description,
            usage=usage,
            allow_abbrev=False,
            exit_on_error=False,
            formatter_class=_Help,
        )

    def add_argument(self, *names: str, **settings: Any) -> None:
        """Add an option or a positional argument, as argparse does; ``action="config"`` reads YAML files."""
        self._reads_files |= settings.get("action") == "config"
        action = self._parser.add_argument(*names, **settings)
        self._options[action.dest] = Option(settings.get("type", str), action.default, action.required)
        if action.required and settings.get("type", str) is str and action.help:
            self._words[action.dest] = action.help
        if names[0].startswith("-"):
            self._flags[action.dest] = names[-1]

    def add_class_arguments(self, options: type) -> None:
        """Add an option for every parameter of a class, with its text from the class's docstring."""
        self._parser.add_class_arguments(options)
        self._options |= parameters(options)
        self._flags |= {name: f"--{name}" for name in parameters(options)}

    def set_defaults(self, values: Mapping[str, Any]) -> None:
        """Other defaults, by dotted key."""
        self._parser.set_defaults(dict(values))

    def parse(self, arguments: Sequence[str]) -> Namespace:
        """The values of all options.

        Raises:
            UserError: an option that there is not, one that is missing, or a value that is not allowed.
        """
        try:
            return self._parser.parse_args(list(arguments))
        except ArgumentError as error:
            raise UserError(self._readable(str(error), arguments)) from error

    def parse_own(self, arguments: Sequence[str]) -> tuple[Namespace, list[str]]:
        """The values of this parser's options, and the arguments that belong to none of them, in order.

        Raises:
            UserError: an option that is missing, or a value that is not allowed.
        """
        own: list[str] = []
        others: list[str] = []
        part = others
        for argument in arguments:
            if argument.startswith("--") or argument == "-h":
                name = argument.partition("=")[0]
                part = own if name in {*self._flags.values(), "-h", "--help"} else others
            part.append(argument)
        return self.parse(own), others

    def _readable(self, message: str, arguments: Sequence[str]) -> str:
        """What jsonargparse complains of, in words for people; an option as it is written on the line."""
        from sgdlit.config.mistakes import readable

        text = readable(message, arguments, self._options)
        text = re.sub(r"did you mean --(\w+)", lambda m: f"did you mean {self._flags.get(m[1], m[1])}", text)
        key = text.partition(":")[0]
        if text == f"{key}: missing; allowed: some text" and key in self._words:
            text = f"{key}: missing; allowed: {self._words[key]}"
        flag = self._flags.get(key, f"--{key}")
        written = {argument.partition("=")[0] for argument in arguments}
        if self._reads_files or not (key in self._flags or flag in written):
            return text
        return flag + text.removeprefix(key)


def check_jobs(jobs: int | None) -> None:
    """Refuse a number of processes that there cannot be.

    Raises:
        UserError: below 1.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs: {jobs} is not allowed; allowed: 1 or more")


class _Help(DefaultHelpFormatter):
    """Options with their types, and with their defaults where they have one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = super()._get_help_string(action)
        if action.default is not None:
            return text
        return text.replace(" (default: %(default)s)", "").replace(", default: %(default)s", "")
