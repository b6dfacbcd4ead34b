"""Lines and planes in the folder of a run: what the cost is between and around networks.

landscape/NAME.json    what was looked at: networks, examples, mode
landscape/NAME.csv     a line: a row for each point
landscape/NAME.npz     a plane: alphas [a], betas [b], losses [a, b], points [k, 2]; no pickle
landscape/NAME.png     its picture
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgdlit.foundations.files import write_atomically, write_table

FOLDER = "landscape"


class LandscapeFiles:
    """The files of one line or plane.

    Args:
        folder: in which the folder ``landscape`` is.
        name: of the files.
        about: what is looked at.
    """

    def __init__(self, folder: Path, name: str, about: Mapping[str, Any]) -> None:
        self.folder, self.name = folder / FOLDER, name
        self._about = json.dumps(about, indent=1, ensure_ascii=False) + "\n"

    def path(self, ending: str) -> Path:
        return self.folder / f"{self.name}.{ending}"

    def write_line(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write the points of a line."""
        self._write_about()
        write_table(self.path("csv"), [dict(row) for row in rows])

    def losses(self, shape: tuple[int, int]) -> np.ndarray:
        """The losses of a plane as far as they are there of the same thing; NaN where they are not."""
        missing = np.full(shape, np.nan)
        try:
            if self.path("json").read_text(encoding="utf-8") != self._about:
                return missing
            with np.load(self.path("npz"), allow_pickle=False) as found:
                return found["losses"] if found["losses"].shape == shape else missing
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return missing

    def write_plane(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a plane as far as it is known."""
        self._write_about()
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        write_atomically(self.path("npz"), content.getvalue())

    def _write_about(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path("json"), self._about)
