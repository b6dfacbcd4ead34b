"""The configs that come with the package: found by name in a clone, and wherever the package is installed.

The name of a config is its path below ``configs/`` without ``.yaml``, such as ``matrix_sensing/simple``. Its
last part alone will do where only one config has it.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed

_CLONE = Path(__file__).resolve().parents[2] / "configs"
_INSTALLED = "share/sgdlit/configs/"


@lru_cache
def shipped() -> Mapping[str, Path]:
    """Every config by name, in alphabetical order."""
    if _CLONE.is_dir():
        found = {str(path.relative_to(_CLONE).as_posix()): path for path in _CLONE.rglob("*.yaml")}
    else:
        found = _installed()
    return {name.removesuffix(".yaml"): found[name] for name in sorted(found)}


def _installed() -> dict[str, Path]:
    """What a wheel put beside the package, by the part of the path that follows ``configs/``."""
    from importlib.metadata import PackageNotFoundError, files

    try:
        listed = files("sgdlit") or []
    except PackageNotFoundError:
        return {}
    parts = {file.as_posix().partition(_INSTALLED)[2]: Path(str(file.locate())).resolve() for file in listed}
    return {name: path for name, path in parts.items() if name.endswith(".yaml")}


def find(text: str) -> Path | None:
    """The shipped config with this name, which may have ``configs/`` and ``.yaml``; None if there is none."""
    name, known = text.removeprefix("configs/").removesuffix(".yaml"), shipped()
    alike = [own for own in known if own.rpartition("/")[2] == name]
    return known.get(name) or (known[alike[0]] if len(alike) == 1 else None)


def require(text: str) -> Path:
    """The shipped config with this name.

    Raises:
        UserError: there is none.
    """
    found = find(text)
    if found is None:
        problem = f"configs: there is none called {text!r}{did_you_mean(text, known_names())}"
        raise UserError(with_allowed(problem, list(shipped())))
    return found


def known_names() -> list[str]:
    """What a config may be called: its name, or the last part of it."""
    return [*shipped(), *(name.rpartition("/")[2] for name in shipped())]


def with_paths(arguments: Sequence[str]) -> list[str]:
    """A command line whose ``--config NAME`` is the path of a shipped config, where NAME is no file here."""
    changed: list[str] = []
    for argument in arguments:
        if argument.startswith("--config="):
            changed.append("--config=" + _path(argument.partition("=")[2]))
        else:
            changed.append(_path(argument) if changed and changed[-1] == "--config" else argument)
    return changed


def _path(text: str) -> str:
    found = None if Path(text).exists() else find(text)
    return text if found is None else str(found)


def about(path: Path) -> str:
    """The paragraph of comment with which a config begins, in one line."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("#") or not text:
            break
        words += text.split()
    return " ".join(words)
