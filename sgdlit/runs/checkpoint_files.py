"""Checkpoint files: written whole or not at all, and read without running code that they may carry."""

import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sgdlit.foundations.errors import UserError

PARTS = ("state_dict", "global_step", "epoch", "loops", "pytorch-lightning_version")
PARTS_TO_GO_ON = (*PARTS, "optimizer_states", "lr_schedulers")


def save_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write beside the target, flush to the disk, then rename: a crash or a full disk leaves the old file.

    Raises:
        UserError: the file cannot be written; what was there before still is.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        with partial.open("xb") as file:  # a link that somebody put there is not followed
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{path}: checkpoint not written ({reason}); earlier checkpoints are intact"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_checkpoint(path: Path, parts: Sequence[str] = PARTS, key: str = "ckpt_path") -> dict[str, Any]:
    """The content of a checkpoint that has the given parts, on the host; no code in it is run.

    Args:
        path: the file, whose checksums are looked at.
        parts: what it must have.
        key: that a message names.

    Raises:
        UserError: the file is missing, damaged, not whole, or carries code.
    """
    if not path.is_file():
        raise UserError(f"{key}: {str(path)!r} does not exist; allowed: a checkpoint file of this model")
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        missing = [part for part in parts if part not in content]
    except Exception as error:  # torch raises many kinds for a damaged or a hostile file
        code = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"loading it would call {code[1]}" if code else "it is damaged, or no checkpoint"
        raise UserError(
            f"{key}: {str(path)!r} cannot be read safely: {reason}\n"
            "allowed: a checkpoint written by sgdlit or Lightning; files that carry code are never run"
        ) from error
    if missing:
        raise UserError(f"{key}: {str(path)!r} is not a whole checkpoint: it has no {missing[0]!r}")
    return content


def _check_sums(path: Path) -> None:
    """Refuse a file of which any bit has changed since it was written: each part has a checksum."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged}: the checksum is another")


def member_prefix(member: int) -> str:
    """What stands before the names of one run's network in the checkpoint's ``state_dict``.

    Args:
        member: number of the run; 0 for one that was trained alone.
    """
    return f"networks.{member}."


def network_state(content: dict[str, Any], member: int) -> dict[str, torch.Tensor]:
    """The parameters and buffers of one network, by the names that the network itself gives them.

    Args:
        content: of a checkpoint.
        member: number of the run; 0 for one that was trained alone.
    """
    prefix = member_prefix(member)
    states = content["state_dict"].items()
    return {name.removeprefix(prefix): value for name, value in states if name.startswith(prefix)}


def check_same_parameters(path: Path, there: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse a file that does not hold just the parameters of a model.

    Raises:
        UserError: naming the first difference.
    """
    differences = [name for name in own if name not in there or there[name].shape != own[name].shape]
    differences += [name for name in there if name not in own]
    if differences:
        name = differences[0]
        shapes = [str(tuple(state[name].shape)) if name in state else "nothing" for state in (there, own)]
        raise UserError(
            f"ckpt_path: {str(path)!r} belongs to another model: {len(differences)} parameters differ, first "
            f"{name}: {shapes[0]} in the file, {shapes[1]} in the model"
        )
