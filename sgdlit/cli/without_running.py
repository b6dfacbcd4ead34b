"""What :class:`RunCLI` does before a run, without the run: the checked config, or all of it built.

Sweeps read configs with it and look at some of their runs; ``measure`` builds a run again.
"""

from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from sgdlit.cli.run_cli import RunCLI


class _ConfigOnly(RunCLI):
    """Reads the config of ``fit``, which may have a section ``sweep``, and stops there."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--sweep", type=Any, default=None, help="what sgdlit.cli.sweep reads")

    def _set_seed(self) -> None:
        """Nothing is drawn."""

    def before_instantiate_classes(self) -> None:
        self._substitute_missing_data(self.config[self.subcommand])
        self._add_measures(self.config[self.subcommand].measures)

    def instantiate_classes(self) -> None:
        """Nothing is built."""

    def after_instantiate_classes(self) -> None:
        """Nothing is built."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


class BuiltRun(RunCLI):
    """Builds a run as ``fit`` does, with model, data and trainer checked, and stops there."""

    def _start_from_weights(self) -> None:
        """What is measured has weights of its own."""

    def _check_callbacks(self) -> None:
        """They belong to whoever asked for the run."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


def parse_fit(arguments: list[str]) -> Namespace:
    """The config of ``fit`` for this command line, checked but not built; without a section ``sweep``.

    Raises:
        UserError: anything in it that the user can mend.
    """
    config = _ConfigOnly("fit", arguments).config.fit
    config.pop("sweep")
    return config
