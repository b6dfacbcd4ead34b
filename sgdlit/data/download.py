"""Fetches the official files of a dataset: resumable, verified by hash, nothing of the user's overwritten.

A file is collected under ``NAME.part``, which an interruption leaves in place and the next call continues
(HTTP Range). It gets its final name only after its md5 matched; a file that does not match is removed. Files
that are already there are kept; one that contradicts the official hash stops the download instead of being
replaced.
"""

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sgdlit.data import readers
from sgdlit.foundations.errors import UserError

CONNECT_SECONDS, SILENCE_SECONDS = 10, 60
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Dataset:
    """Where a dataset comes from and where it goes.

    Attributes:
        title: its name in print.
        base_url: the folder on the server.
        hashes: for each file on the server, its md5 in hexadecimal.
        folders: where, relative to the root, its readers look.
        home: the one of them that a download fills when there is nothing yet.
        members: for an archive, the files that are taken out of it; empty where files are read as they are.
    """

    title: str
    base_url: str
    hashes: dict[str, str]
    folders: tuple[str, ...]
    home: str
    members: tuple[str, ...] = ()


CIFAR10 = Dataset(
    title="CIFAR-10",
    base_url="https://www.cs.toronto.edu/~kriz/",
    hashes={"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
    folders=readers.CIFAR10_FOLDERS,
    home="cifar-10-batches-bin",
    members=readers.CIFAR10_TRAIN + readers.CIFAR10_TEST,
)
FASHION_MNIST = Dataset(
    title="Fashion-MNIST",
    base_url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    hashes={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    folders=readers.FASHION_MNIST_FOLDERS,
    home="fashion-mnist",
)
DATASETS = {"cifar10": CIFAR10, "fashion-mnist": FASHION_MNIST}


def fetch(
    dataset: Dataset, root: Path | str, base_url: str | None = None, progress: bool = True
) -> tuple[Path, list[str]]:
    """Completes ``dataset`` under ``root``; where it is complete, nothing is fetched and no server asked.

    Args:
        dataset: one of :data:`DATASETS`.
        root: the folder that the readers are given; made if it is not there.
        base_url: another server's folder with the same files; default: the official one.
        progress: show a bar with the expected time on standard error.

    Returns:
        The folder of the dataset's files, and the names of those that this call added.

    Raises:
        UserError: no network, an interrupted transfer (the same call continues it), a wrong hash, a file in
            the way, a full disk, no permission; with the file or address and the reason.
    """
    root, base_url = Path(root), (base_url or dataset.base_url).rstrip("/")
    names = dataset.members or tuple(dataset.hashes)
    known = [form for name in names for form in _forms(name)]
    folder = readers.locate(root, dataset.folders, known) or root / dataset.home
    missing = [name for name in names if not any((folder / form).is_file() for form in _forms(name))]
    if not missing:
        return folder, []
    if dataset.members:
        [(archive, md5)] = dataset.hashes.items()
        _obtain(f"{base_url}/{archive}", root / archive, md5, progress)
        return folder, _unpack(root / archive, folder, names)
    for name in set(names) - set(missing):
        _check_official(folder, name, dataset.hashes[name])
    for name in missing:
        _obtain(f"{base_url}/{name}", folder / name, dataset.hashes[name], progress)
    return folder, missing


def official(dataset: Dataset, folder: Path) -> bool | None:
    """Whether every file in ``folder`` has its official hash; None where only the archive has one."""
    if dataset.members:
        return None
    return all(
        (folder / name).is_file() and _md5(folder / name) == md5 for name, md5 in dataset.hashes.items()
    )


def _forms(name: str) -> set[str]:
    """The names under which the readers take a file: as it is and, if it is gzipped, unpacked."""
    return {name, name.removesuffix(".gz")}


def _md5(path: Path) -> str:
    import pooch

    return pooch.file_hash(str(path), alg="md5")


def _check_official(folder: Path, name: str, md5: str) -> None:
    """Refuses to complete a set that was begun with other files: images and labels would not match."""
    path = readers.plain_or_gzipped(folder, name.removesuffix(".gz"))
    if path.name != name or _md5(path) != md5:
        raise UserError(
            f"{path}: not the official {name} (md5 {_md5(path)}, expected {md5}), so the official files that "
            "are missing may not match it. Nothing was fetched: move it away, or give another --root"
        )


def _obtain(url: str, path: Path, md5: str, progress: bool) -> None:
    """Makes ``path`` the file with this md5: it is there, or it is downloaded."""
    import pooch

    if path.exists():
        if _md5(path) != md5:
            raise UserError(
                f"{path}: not the official file (md5 {_md5(path)}, expected {md5}). Nothing was overwritten: "
                "move it away and run the same command again"
            )
        return
    pooch.get_logger().setLevel("WARNING")
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        downloader = partial(_download, part=part, progress=progress)
        pooch.retrieve(url, f"md5:{md5}", path.name, path.parent, downloader=downloader)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror or error} (downloading {url})"
        ) from error
    except ValueError as error:  # pooch's word for a hash that does not match
        raise UserError(f"{url}: {error}") from error


def _download(url: str, output_file: str, _pooch: Any, *, part: Path, progress: bool) -> None:
    """A pooch downloader that collects the file in ``part`` and hands it over when it is whole."""
    import requests
    import urllib3

    try:
        _transfer(url, part, progress)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        kept = part.stat().st_size if part.exists() else 0
        advice = f"\n{kept} bytes are kept in {part}: the same command continues from there" if kept else ""
        raise UserError(f"{url}: download failed: {_reason(error)}{advice}") from error
    os.replace(part, output_file)


def _transfer(url: str, part: Path, progress: bool) -> None:
    """Appends to ``part`` what it still lacks, or starts it again where the server cannot continue."""
    import requests

    offset = part.stat().st_size if part.exists() else 0
    # "identity": the bytes on disk must be the file's own, or the offset would mean nothing.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    timeout = (CONNECT_SECONDS, SILENCE_SECONDS)
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        content_range = response.headers.get("Content-Range", "")
        if offset and response.status_code == 416 and content_range == f"bytes */{offset}":
            return
        unusable = response.status_code == 206 and not content_range.startswith(f"bytes {offset}-")
        if offset and (response.status_code == 416 or unusable):
            part.unlink()
            return _transfer(url, part, progress)
        response.raise_for_status()
        if response.status_code != 206:
            offset = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else offset + int(length)
        with open(part, "ab" if offset else "wb") as file:
            for chunk in _with_progress(response.raw, part.stem, offset, total, progress):
                file.write(chunk)
    if total is not None and part.stat().st_size < total:
        raise requests.ConnectionError(f"the connection ended after {part.stat().st_size} of {total} bytes")


def _with_progress(raw: Any, name: str, offset: int, total: int | None, progress: bool) -> Iterator[bytes]:
    """The chunks of a response as they come, beside a bar with size, speed and expected time."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task(name, total=total, completed=offset)
        for chunk in raw.stream(_CHUNK, decode_content=False):
            bar.update(task, advance=len(chunk))
            yield chunk


def _reason(error: BaseException) -> str:
    """The last cause in a chain of network exceptions: "Connection refused", not four class names."""
    import requests

    if isinstance(error, requests.ConnectTimeout):
        return f"no answer within {CONNECT_SECONDS} s"
    if isinstance(error, requests.HTTPError):
        return f"the server answers {error.response.status_code} {error.response.reason}"
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error)


def _unpack(archive: Path, folder: Path, names: tuple[str, ...]) -> list[str]:
    """Writes the members ``names`` of a tar.gz into ``folder``; no path in the archive decides where.

    A file that is already in ``folder`` must equal its member, or nothing is written.
    """
    try:
        for name, member in _members(archive, names):
            path = folder / name
            if path.exists() and path.read_bytes() != member:
                raise UserError(
                    f"{path}: differs from the official file in {archive}, so the set would be mixed. "
                    "Nothing was overwritten: move it away and run the same command again"
                )
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name, member in _members(archive, names):
            if not (folder / name).exists():
                _write_atomically(folder / name, member)
                written.append(name)
        return written
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{archive}: not a readable tar.gz: {error}") from error
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written: {error.strerror or error} (unpacking {archive})"
        ) from error


def _members(archive: Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the archive's regular files of these names, in its order, whatever their folder."""
    left = set(names)
    with tarfile.open(archive, "r:gz") as tar:
        for info in tar:
            name = info.name.rsplit("/", 1)[-1]
            if info.isreg() and name in left:
                left.remove(name)
                yield name, tar.extractfile(info).read()
    if left:
        raise UserError(f"{archive}: holds no {', '.join(sorted(left))}")


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
