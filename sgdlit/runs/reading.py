"""What a run leaves in its folder, read back: its config, how it ended, and the columns of its metrics."""

import csv
import json
from pathlib import Path
from typing import Any

import yaml

from sgdlit.foundations.errors import UserError


def folders_of_runs(path: Path) -> list[Path]:
    """The folder itself if it is that of a run, else the folders ``version_k`` in it, by k.

    Raises:
        UserError: there are none.
    """
    if (path / "config.yaml").is_file():
        return [path]
    found = [p for p in path.glob("version_*") if p.name[8:].isdigit() and (p / "config.yaml").is_file()]
    if not found:
        raise UserError(
            f"{path}: neither the folder of a run nor one with version_0, version_1, … of runs in it"
        )
    return sorted(found, key=lambda p: int(p.name[8:]))


def read_config(folder: Path) -> dict[str, Any]:
    """Everything that was set, as nested dictionaries."""
    return yaml.safe_load(_text(folder / "config.yaml"))


def value(config: dict[str, Any], key: str) -> Any:
    """The value of a dotted key, in which ``init_args`` may be left out; None where there is none."""
    found: Any = config
    for part in key.split("."):
        if not isinstance(found, dict):
            return None
        inner = found.get("init_args") or {}
        found = found[part] if part in found else inner.get(part)
    return found


def read_status(folder: Path) -> dict[str, Any]:
    """``state`` (running, finished, stopped, diverged or failed), ``step``, and what was reached."""
    return json.loads(_text(folder / "status.json"))


def read_column(folder: Path, column: str) -> tuple[list[int], list[float]]:
    """Steps and values of one column of ``metrics.csv``, rows without a value left out."""
    rows = [row for row in csv.DictReader(_text(folder / "metrics.csv").splitlines()) if row.get(column)]
    return [int(row["step"]) for row in rows], [float(row[column]) for row in rows]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path.parent}: not the folder of a run: {path.name} is missing") from error
