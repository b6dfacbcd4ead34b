"""Fetches the official files of a set: verified by hash, nothing of the user's overwritten.

A file gets its name only when its md5 has matched, so an interrupted or damaged download leaves nothing.
Files that are already there are kept; one that contradicts the official hash stops the download instead of
being replaced.
"""

import gzip
import os
import tarfile
import zlib
from pathlib import Path

from sgdlit.data.official_files import OfficialFiles
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.progress import Progress

CONNECT_SECONDS, SILENCE_SECONDS = 10, 60


def fetch(
    files: OfficialFiles, root: Path | str, base_url: str | None = None, progress: bool = True
) -> tuple[Path, list[str]]:
    """Completes a set under ``root``; where it is complete, nothing is fetched and no server asked.

    Args:
        files: of the set.
        root: the folder that the set is read from; made if it is not there.
        base_url: another server's folder with the same files; default: the official one.
        progress: show a bar with the expected time on standard error.

    Returns:
        The folder of the set's files, and the names of those that this call added.

    Raises:
        UserError: no network, an interrupted transfer, a wrong hash, a file in the way, a full disk, no
            permission; with the file or address and the reason.
    """
    root, base_url = Path(root), (base_url or files.base_url).rstrip("/")
    folder = files.locate(root) or root / files.folders[0]
    if all(files.path(folder, name) for name in files.names):
        return folder, []
    if files.archived:
        [(archive, md5)] = files.hashes.items()
        _obtain(f"{base_url}/{archive}", root / archive, md5, progress)
        return folder, _unpack(root / archive, folder, files.names)
    there = {name: files.path(folder, _unpacked(name)) for name in files.hashes}
    for name, path in there.items():
        if path is not None:
            _check_official(path, name, files.hashes[name])
    missing = [name for name, path in there.items() if path is None]
    for name in missing:
        _obtain(f"{base_url}/{name}", folder / name, files.hashes[name], progress)
    return folder, missing


def official(files: OfficialFiles, folder: Path) -> bool | None:
    """Whether every file in ``folder`` has its official hash; None where only the archive has one."""
    if files.archived:
        return None
    return all((folder / name).is_file() and _md5(folder / name) == md5 for name, md5 in files.hashes.items())


def _unpacked(name: str) -> str:
    return name.removesuffix(".gz")


def _md5(path: Path) -> str:
    import pooch

    return pooch.file_hash(str(path), alg="md5")


def _check_official(path: Path, name: str, md5: str) -> None:
    """Refuses to complete a set that was begun with other files: images and labels would not match."""
    if path.name != name or _md5(path) != md5:
        raise UserError(
            f"{path}: not the official {name} (md5 {_md5(path)}, expected {md5}), so the official files that "
            "are missing may not match it. Nothing was fetched: move it away, or give another --root"
        )


def _obtain(url: str, path: Path, md5: str, progress: bool) -> None:
    """Makes ``path`` the file with this md5: it is there, or it is downloaded."""
    if not path.exists():
        _download(url, path, md5, progress)
    elif _md5(path) != md5:
        raise UserError(
            f"{path}: not the official file (md5 {_md5(path)}, expected {md5}). Nothing was overwritten: "
            "move it away and run the same command again"
        )


def _download(url: str, path: Path, md5: str, progress: bool) -> None:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    timeout = CONNECT_SECONDS, SILENCE_SECONDS
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _Bar(path.name, hidden=not progress) as bar:
            downloader = pooch.HTTPDownloader(progressbar=bar, timeout=timeout)
            pooch.retrieve(url, f"md5:{md5}", path.name, path.parent, downloader=downloader)
        path.chmod(0o666 & ~_umask())  # pooch makes files that only their owner may read
    except requests.RequestException as error:
        raise UserError(f"{url}: download failed: {_reason(error)}") from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror or error} (downloading {url})"
        ) from error
    except ValueError as error:  # pooch's word for a hash that does not match
        raise UserError(f"{url}: {error}") from error


class _Bar:
    """How many MB of a file have arrived, as pooch asks for it."""

    def __init__(self, name: str, hidden: bool) -> None:
        self.progress = Progress(f"{name}, MB", hidden=hidden)
        self.arrived = 0

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def total(self) -> float | None:
        return self.progress.total

    @total.setter
    def total(self, size: int) -> None:
        self.progress.total = size / 1e6 or None

    def update(self, size: int) -> None:
        self.arrived += size
        self.progress.update(self.arrived / 1e6)

    def reset(self) -> None:
        self.arrived = 0

    def close(self) -> None:
        self.progress.stop()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _reason(error: BaseException) -> str:
    """The last cause in a chain of network exceptions: "Connection refused", not four class names."""
    import requests

    if isinstance(error, requests.ConnectTimeout):
        return f"no answer within {CONNECT_SECONDS} s"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    while error.__context__ is not None:
        error = error.__context__
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _unpack(archive: Path, folder: Path, names: tuple[str, ...]) -> list[str]:
    """Writes the members ``names`` of a tar.gz into ``folder``; no path in the archive decides where.

    A file that is already in ``folder`` must equal its member, or nothing is written.
    """
    try:
        members = _members(archive, names)
        missing = [name for name in members if not (folder / name).exists()]
        for name in members.keys() - missing:
            if (folder / name).read_bytes() != members[name]:
                raise UserError(
                    f"{folder / name}: differs from the official file in {archive}, so the set would be "
                    "mixed. Nothing was overwritten: move it away and run the same command again"
                )
        folder.mkdir(parents=True, exist_ok=True)
        for name in missing:
            temporary = folder / f".{name}.tmp-{os.getpid()}"
            temporary.write_bytes(members[name])
            os.replace(temporary, folder / name)
        return missing
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{archive}: not a readable tar.gz: {error}") from error
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written: {error.strerror or error} (unpacking {archive})"
        ) from error


def _members(archive: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The contents of the archive's regular files of these names, in its order, whatever their folder."""
    found: dict[str, bytes] = {}
    with tarfile.open(archive, "r:gz") as tar:
        for info in tar:
            name = info.name.rsplit("/", 1)[-1]
            wanted = info.isreg() and name in names and name not in found
            content = tar.extractfile(info) if wanted else None
            if content is not None:
                found[name] = content.read()
    if left := set(names) - found.keys():
        raise UserError(f"{archive}: holds no {', '.join(sorted(left))}")
    return found
