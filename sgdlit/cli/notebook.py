"""The command ``fit`` from Python, with the result of the command line: for notebooks and scripts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sgdlit.config.shipped import with_paths
from sgdlit.foundations.errors import UserError
from sgdlit.runs.reading import Run, load_run


def fit(*configs: str | Path | Mapping[str, Any], **overrides: Any) -> Run:
    """Train a run as ``python -m sgdlit fit`` does.

    Args:
        configs: files of options, names of configs that come with the package, or dictionaries of options by
            dotted key; later ones win.
        overrides: top-level options, such as ``name="mine"``; they win over all configs.

    Returns:
        The run, also where it diverged.

    Raises:
        UserError: a mistake in a config or a value.
        KeyboardInterrupt: a signal stopped it; ``fit(resume=FOLDER)`` goes on.
    """
    from sgdlit.foundations.late_imports import load_late

    load_late()
    from sgdlit.cli.fit import train
    from sgdlit.cli.run_cli import RunCLI

    arguments: list[str] = []
    for config in (*configs, overrides):
        if isinstance(config, Mapping):
            arguments += [f"--{key}={_written(value)}" for key, value in config.items()]
        else:
            arguments += ["--config", str(config)]
    cli: RunCLI = train("fit", with_paths(arguments))
    if cli.exit_code >= 128:
        raise KeyboardInterrupt(f"stopped by a signal; the run is in {cli.folder}")
    if cli.folder is None:
        raise UserError("trainer.fast_dev_run: leaves no run to be read; allowed: false")
    return load_run(cli.folder)


def _written(value: Any) -> str:
    """A value as it stands on the command line, in one line of YAML."""
    return (
        value
        if isinstance(value, str)
        else yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
        .removesuffix("\n...\n")
        .strip()
    )
