"""What a finite set that is read from files consists of: its files, where they come from, and how they are
read."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgdlit.data.reading import Format
from sgdlit.foundations.errors import UserError


class DataMissing(UserError):
    """The files are not there; the message says which, where they were looked for, and how to fetch them."""


@dataclass(frozen=True)
class OfficialFiles:
    """The files of a set.

    Attributes:
        title: the set's name in print.
        name: its name in ``python -m sgdlit data NAME``.
        format: of the files.
        train: names of the training files, unpacked.
        test: names of the test files, unpacked.
        counts: training and test examples that the official files hold.
        base_url: the folder on the server.
        hashes: for each file on the server, its md5 in hexadecimal.
        folders: where, relative to the root, the files may lie beside the root itself; a download fills the
            first.
        archived: whether the one file on the server is a tar.gz of the files.
        config: a config that trains on the set, for the hint after a download.
        note: from the root, a sentence about what is there instead of the files; empty where there is none.
    """

    title: str
    name: str
    format: Format
    train: tuple[str, ...]
    test: tuple[str, ...]
    counts: tuple[int, int]
    base_url: str
    hashes: dict[str, str]
    folders: tuple[str, ...]
    archived: bool = False
    config: str | None = None
    note: Callable[[Path], str] = lambda root: ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all files, unpacked."""
        return self.train + self.test

    def path(self, folder: Path, name: str) -> Path | None:
        """The file ``name`` in a folder, in the first of the forms in which it is there."""
        return next((folder / n for n in self.format.forms(name) if (folder / n).is_file()), None)

    def locate(self, root: Path | str) -> Path | None:
        """The folder under ``root`` that holds most of the files, the first of equals; None without any."""

        def found(folder: Path) -> int:
            forms = (form for name in self.names for form in self.format.forms(name))
            return sum((folder / form).is_file() for form in forms)

        best = max((Path(root) / folder for folder in (".", *self.folders)), key=found)
        return best if found(best) else None

    def read(self, root: Path | str, train: bool) -> tuple[np.ndarray, np.ndarray]:
        """One split; see :meth:`Format.read` for what comes back and what is refused.

        Args:
            root: the folder of the files, or the one that holds one of ``folders``. Files may hold any number
                of examples.
            train: the training split or the test split.

        Raises:
            DataMissing: a file is not there.
        """
        return self.format.read(self._paths(root, self.train if train else self.test))

    def require(self, root: Path | str) -> None:
        """Refuse a folder in which some of the files are not; nothing is read.

        Raises:
            DataMissing: naming all of them.
        """
        self._paths(root, self.names)

    def _paths(self, root: Path | str, names: tuple[str, ...]) -> list[Path]:
        folder = self.locate(root)
        paths = {name: None if folder is None else self.path(folder, name) for name in names}
        missing = [self.format.forms(name)[-1] for name, path in paths.items() if path is None]
        if missing:
            raise self._missing(Path(root), folder, missing)
        return [path for path in paths.values() if path is not None]

    def _missing(self, root: Path, folder: Path | None, missing: list[str]) -> DataMissing:
        if not root.is_dir():
            what = f"{root}: no such folder, so no {self.title}"
        elif folder is None:
            what = f"{root}: no {self.title} here or in {' or '.join(self.folders)}"
        else:
            what = f"{folder}: {self.title} is not complete"
        return DataMissing(
            f"{what} (missing: {', '.join(missing)}).{self.note(root)}\nTo fetch it: {self.command(root)}"
        )

    def command(self, root: Path | str) -> str:
        """The command that fetches the files."""
        return f"python -m sgdlit data {self.name} --root {shlex.quote(str(root))}"
