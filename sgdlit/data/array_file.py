"""The arrays of a person's own data: read from a ``.npz`` file, never a pickle, and checked.

inputs, targets              training examples, of which validation examples are taken
test_inputs, test_targets    test examples; both may be left out
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed

NAMES = ("inputs", "targets", "test_inputs", "test_targets")
_NEEDED = NAMES[:2]
_WRITTEN = "\nallowed: a .npz file of numbers, as sgdlit.save_arrays writes it"

Arrays = dict[str, np.ndarray]


def save_arrays(
    path: str | Path, inputs: Any, targets: Any, test_inputs: Any = None, test_targets: Any = None
) -> Path:
    """Write a file that ``sgdlit.data.arrays.Arrays`` reads, once the arrays are seen to be what it takes.

    Args:
        path: of the file, ``.npz``.
        inputs: of the training examples, ``[N, ...]``: bytes (pixels), real or whole numbers (tokens).
        targets: ``[N]`` whole numbers from 0 on (classes), or real numbers ``[N, ...]``.
        test_inputs: of the test examples, as ``inputs``; None for none.
        test_targets: as ``targets``.

    Returns:
        The path.

    Raises:
        UserError: arrays that cannot be trained on.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise UserError(f"path: {str(path)!r} is not allowed; allowed: a file whose name ends in .npz")
    given = (inputs, targets, test_inputs, test_targets)
    found = {name: np.asarray(array) for name, array in zip(NAMES, given, strict=True) if array is not None}
    check_arrays(found, str(path))
    np.savez(path, **found)  # type: ignore[arg-type]
    return path


def read_arrays(path: str | Path, names: Mapping[str, str] | None = None) -> Arrays:
    """What a file holds, checked.

    Args:
        path: of the file.
        names: what the file calls its arrays, by the names that are used here.

    Raises:
        UserError: the file is missing, damaged or no ``.npz`` file, lacks an array, or holds arrays that
            cannot be trained on.
    """
    path, names = Path(path), dict(names or {})
    for name in names:
        if name not in NAMES:
            raise UserError(
                with_allowed(f"data.names: {name!r} is not allowed{did_you_mean(name, NAMES)}", NAMES)
            )
    held = _load(path)
    found = {}
    for name in NAMES:
        own = names.get(name, name)
        if own in held:
            found[name] = held[own]
        elif name in _NEEDED or name in names:
            near = did_you_mean(own, list(held))
            raise UserError(
                f"data.path: {str(path)!r} has no array {own!r}{near or ';'} there are: "
                f"{', '.join(held) or 'none'}; write it with sgdlit.save_arrays, or give the names that it "
                "has with data.names: {inputs: ..., targets: ...}"
            )
    check_arrays(found, f"data.path: {str(path)!r}")
    return found


def require_array_file(path: str | Path) -> None:
    """Refuse a file that is not there.

    Raises:
        UserError: naming the nearest one that is.
    """
    path = Path(path)
    if not path.is_file():
        there = sorted(map(str, path.parent.glob("*.npz"))) if path.parent.is_dir() else []
        raise UserError(
            f"data.path: {str(path)!r} does not exist{did_you_mean(str(path), there)}"
            f"\nallowed: a .npz file; sgdlit.save_arrays writes one"
        )


def _load(path: Path) -> Arrays:
    """All arrays of a file."""
    require_array_file(path)
    problem = f"data.path: {str(path)!r} cannot be read"
    if not zipfile.is_zipfile(path):
        raise UserError(f"{problem}: it is no .npz file, or damaged{_WRITTEN}")
    try:
        with path.open("rb") as file:  # numpy would leave a damaged one open
            held = np.load(file, allow_pickle=False)
            return {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        objects = "Object arrays" in str(error) or "pickle" in str(error)
        why = (
            "it holds Python objects, which could run code; store plain numbers"
            if objects
            else str(error) or "it is damaged"
        )
        raise UserError(f"{problem}: {why}{_WRITTEN}") from error


def check_arrays(found: Arrays, where: str) -> None:
    """Refuse what cannot be trained on.

    Args:
        found: by name.
        where: the file, for messages.

    Raises:
        UserError: naming the array, what it is and what is allowed.
    """
    for name, array in found.items():
        _check_type(name, array, where)
    for name in ("inputs", "test_inputs"):
        targets = name.replace("inputs", "targets")
        if (name in found) != (targets in found):
            there, missing = (name, targets) if name in found else (targets, name)
            raise UserError(f"{where}: {there} without {missing}; allowed: both, or neither")
        if name in found and len(found[name]) != len(found[targets]):
            raise UserError(
                f"{where}: {name} has {len(found[name])} examples and {targets} has {len(found[targets])}; "
                "allowed: as many of each, along the first axis"
            )
    for name in NAMES[2:]:
        own, other = found.get(name), found[name.removeprefix("test_")]
        if own is not None and (own.shape[1:], own.dtype.kind) != (other.shape[1:], other.dtype.kind):
            first = name.removeprefix("test_")
            raise UserError(
                f"{where}: {name} are {_one(own)}, but {first} are {_one(other)}; allowed: the same"
            )


def _one(array: np.ndarray) -> str:
    """What each example of an array is."""
    shape = "×".join(map(str, array.shape[1:]))
    return f"{array.dtype} of shape {shape}" if shape else f"{array.dtype}, one number each"


def _check_type(name: str, array: np.ndarray, where: str) -> None:
    least, is_target = (1 if "targets" in name else 2), "targets" in name
    if array.dtype.kind not in "fiub":
        raise UserError(f"{where}: {name} is of type {array.dtype}; allowed: numbers")
    if array.ndim < least or not array.size:
        allowed = "[N] or [N, ...]" if is_target else "[N, ...], an example per row"
        raise UserError(
            f"{where}: {name} has shape {list(array.shape)}; allowed: {allowed}, none of them empty"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        example = int(np.argwhere(~np.isfinite(array))[0][0])
        raise UserError(f"{where}: {name} is not finite in example {example}; allowed: finite numbers")
    if is_target and array.dtype.kind == "i" and array.ndim == 1 and array.min() < 0:
        raise UserError(
            f"{where}: {name} has the label {array.min()}; allowed: classes from 0 on, or real numbers "
            "(such as -1.0 and 1.0 for model.loss: logistic)"
        )


def digest(found: Arrays) -> str:
    """Equal for equal arrays."""
    state = hashlib.sha256()
    for name, array in sorted(found.items()):
        state.update(f"{name} {array.dtype} {array.shape}".encode())
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()[:16]
