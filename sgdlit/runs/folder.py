"""The folder of a run, ``logs/<name>/version_k``: claimed once, by one process, when nothing can go wrong.

It holds what a person wants to read later: ``config.yaml`` (everything that was set), ``status.json`` (how
the run ended and what it reached), ``metrics.csv``, TensorBoard's events, and ``checkpoints/``.
"""

import json
import os
from pathlib import Path
from typing import Any

from sgdlit.foundations.errors import UserError


def claim(logs: Path, name: str) -> Path:
    """Make the next free ``logs/name/version_k``, also when several processes try at once.

    Raises:
        UserError: the folder cannot be written.
    """
    parent = logs / name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        taken = [int(p.name[8:]) for p in parent.glob("version_*") if p.name[8:].isdigit()]
        k = max(taken, default=-1) + 1
        while True:
            try:
                (parent / f"version_{k}").mkdir()
                return parent / f"version_{k}"
            except FileExistsError:
                k += 1
    except OSError as error:
        raise UserError(
            f"logs: {str(logs)!r} cannot be written ({error.strerror}: {error.filename}); "
            "allowed: a folder that you may write to, given with --logs DIR"
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that it is there whole or as it was before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_status(folder: Path, state: str, step: int, **facts: Any) -> None:
    """Record how the run stands: ``state`` is running, finished, stopped, diverged or failed."""
    write_atomically(
        folder / "status.json", json.dumps({"state": state, "step": step, **facts}, indent=1) + "\n"
    )
