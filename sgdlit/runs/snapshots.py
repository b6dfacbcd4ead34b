"""Snapshots: light files of what a run was at some of its steps, from which measures are taken afterwards.

    snapshots/step_000000016.ckpt     what the run was after 16 updates
    snapshots/before_000000015.ckpt   the same, kept only because a measure at a step soon after looks back

Each holds parameters and buffers of every member, the settings of its optimizer and, where the run kept it,
the optimizer's state, under the names that checkpoints have for them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdlit import __version__
from sgdlit.foundations.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = "snapshots"
_FORMAT = 1
_STEP, _BEFORE = "step_", "before_"
_PARTS = ("state_dict", "optimizer_states", "global_step", "format", "version")


def snapshot_path(folder: Path, step: int, looked_back_at: bool = False) -> Path:
    """The file of a step; that of one which is only looked back at has another name."""
    return folder / FOLDER / f"{_BEFORE if looked_back_at else _STEP}{step:09d}.ckpt"


def snapshot_steps(folder: Path) -> list[int]:
    """The steps with a snapshot, without those that are only looked back at."""
    return sorted(_steps(folder, _STEP))


def _steps(folder: Path, prefix: str) -> dict[int, Path]:
    names = {path: path.stem.removeprefix(prefix) for path in (folder / FOLDER).glob(f"{prefix}*.ckpt")}
    return {int(digits): path for path, digits in names.items() if digits.isdigit()}


def has_snapshot(folder: Path, step: int) -> bool:
    """Whether there is a file of a step, also if it is only looked back at."""
    return any(snapshot_path(folder, step, back).is_file() for back in (False, True))


def save_snapshot(folder: Path, content: "Mapping[str, Any]", looked_back_at: bool) -> None:
    """Write the file of the step ``content["global_step"]``, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    from sgdlit.runs.checkpoint_files import save_checkpoint

    path = snapshot_path(folder, content["global_step"], looked_back_at)
    save_checkpoint({**content, "format": _FORMAT, "version": __version__}, path)


def load_snapshot(folder: Path, step: int) -> dict[str, Any]:
    """The content of a step's file, on the host; no code that it may carry is run.

    Raises:
        UserError: it is missing, damaged, carries code, or was written in another format.
    """
    from sgdlit.runs.checkpoint_files import load_checkpoint

    path = snapshot_path(folder, step)
    if not path.is_file():
        path = snapshot_path(folder, step, looked_back_at=True)
    content = load_checkpoint(path, _PARTS, "snapshot")
    if content["format"] != _FORMAT:
        raise UserError(
            f"snapshot: {str(path)!r} was written by version {content['version']} of sgdlit in format "
            f"{content['format']}; allowed: format {_FORMAT}, which this version ({__version__}) reads"
        )
    return content


def remove_snapshots_after(folder: Path, step: int) -> None:
    """Remove the files of later steps, which a resumed run makes again."""
    for prefix in (_STEP, _BEFORE):
        for later, path in _steps(folder, prefix).items():
            if later > step:
                path.unlink(missing_ok=True)
