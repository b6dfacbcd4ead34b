"""The file formats of finite sets of images: binary records and IDX, read into numpy arrays, never a pickle.

A reader trusts nothing in a file: lengths, magic numbers, dimensions and labels are checked before an array
leaves it, and every error names the file, what was found and what is expected. How many examples there are is
not checked, so small files in the official formats are read as well.

What lies in one unpacked file is memory-mapped read-only, so that it may be larger than the memory: the
pixels are views of the file, paged in as they are visited. Several files are joined into one array in memory
(CIFAR-10's training set: 154 MB). Gzipped files are unpacked into memory (47 MB for Fashion-MNIST).
``torch.tensor(images)`` takes either kind (it copies); ``torch.from_numpy`` warns on a read-only map.
"""

import gzip
import math
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgdlit.foundations.errors import UserError

_MAX_DEFLATE_RATIO = 1032  # zlib's limit: a gzip file cannot hold more than this many bytes per byte


@dataclass(frozen=True)
class Format(ABC):
    """How the files of a set hold images and labels.

    Attributes:
        shape: (C, H, W) of an image.
        classes: number of classes; labels are 0 … classes − 1.
    """

    shape: tuple[int, int, int]
    classes: int = 10

    def forms(self, name: str) -> tuple[str, ...]:
        """The names under which the file ``name`` is read, the preferred one first."""
        return (name,)

    @abstractmethod
    def read(self, paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
        """The examples of one split.

        Args:
            paths: its files, in the order in which the set names them.

        Returns:
            Images, uint8 ``[N, C, H, W]``, a read-only map where they are one unpacked file; labels, int64
            ``[N]``.

        Raises:
            UserError: a file is truncated, unreadable, of another kind or shape, or holds a label that no
                class has.
        """

    def checked(self, path: Path, labels: np.ndarray) -> np.ndarray:
        """The labels of a file as int64 in memory.

        Raises:
            UserError: a label that no class has.
        """
        wrong = np.flatnonzero(labels >= self.classes)
        if len(wrong):
            raise UserError(
                f"{path}: label {labels[wrong[0]]} in record {wrong[0]} (counted from 0; {len(wrong)} such); "
                f"expected 0 to {self.classes - 1}. Damaged, or another format?"
            )
        return np.asarray(labels).astype(np.int64)


@dataclass(frozen=True)
class Records(Format):
    """Files of records, each some bytes of labels and then the pixels, planes one after another (CIFAR).

    Attributes:
        label_bytes: bytes before the pixels of each record: 1 in CIFAR-10, 2 in CIFAR-100.
        label_byte: which of them is the label.
    """

    label_bytes: int = 1
    label_byte: int = 0

    def read(self, paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
        images, labels = zip(*map(self._read_file, paths), strict=True)
        return images[0] if len(images) == 1 else np.concatenate(images), np.concatenate(labels)

    def _read_file(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        images, labels = memory_map_records(path, self.label_bytes, self.shape)
        return images, self.checked(path, labels[:, self.label_byte])


@dataclass(frozen=True)
class Idx(Format):
    """A pair of IDX files, images and labels, gzipped or not (MNIST and its kin); one channel."""

    def forms(self, name: str) -> tuple[str, ...]:
        return name, f"{name}.gz"

    def read(self, paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
        of_images, of_labels = paths
        images, labels = _read_idx(of_images, self.shape[1:]), _read_idx(of_labels, ())
        if len(images) != len(labels):
            raise UserError(
                f"{of_images} holds {len(images)} images but {of_labels} holds {len(labels)} labels"
            )
        return images[:, None], self.checked(of_labels, labels)


def memory_map_records(
    path: Path | str, label_bytes: int = 1, shape: tuple[int, ...] = (3, 32, 32)
) -> tuple[np.ndarray, np.ndarray]:
    """Read-only views of a file of records, each ``label_bytes`` of labels and then the pixels of one image.

    Nothing is read before it is visited, so the file may be larger than the memory.

    Args:
        path: a file of whole records, at least one (CIFAR-10 has 1 label byte, CIFAR-100 has 2).
        label_bytes: bytes before the pixels of each record.
        shape: of one image, bytes in C order.

    Returns:
        Images, uint8 of shape (N, *shape), and labels, uint8 of shape (N, label_bytes), unchecked.

    Raises:
        UserError: the file cannot be read, is empty, or ends within a record.
    """
    path, pixels = Path(path), math.prod(shape)
    record = label_bytes + pixels
    with _reading(path):
        size = path.stat().st_size
        count, rest = divmod(size, record)
        if rest or not count:
            raise UserError(
                f"{path}: {size} bytes are {count} records and {rest} bytes more; expected one or more whole "
                f"records of {record} bytes ({label_bytes} label + {pixels} pixels). "
                "Truncated, or another format?"
            )
        records = np.memmap(path, np.uint8, "r", shape=(count, record))
    return records[:, label_bytes:].reshape(count, *shape), records[:, :label_bytes]


def _read_idx(path: Path, item: tuple[int, ...]) -> np.ndarray:
    """An IDX file of unsigned bytes, gzipped if its name ends in .gz: uint8 of shape (N, *item)."""
    header_size = 4 * (2 + len(item))
    with _reading(path), gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        shape = _idx_shape(path, file.read(header_size), item)
        size, stored = math.prod(shape), path.stat().st_size
        if path.suffix != ".gz":
            _check_idx_length(path, stored - header_size, shape)
            return np.memmap(path, np.uint8, "r", header_size, shape)
        # The header may lie: no more is allocated than the file can hold.
        data = file.read(min(size, stored * _MAX_DEFLATE_RATIO) + 1)
        _check_idx_length(path, len(data), shape)
    return np.frombuffer(bytearray(data), np.uint8).reshape(shape)


def _idx_shape(path: Path, header: bytes, item: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the header states, checked: magic number 0x0800 + dimensions, then big-endian sizes."""
    dims, magic = 1 + len(item), 0x0801 + len(item)
    if len(header) < 4 + 4 * dims:
        raise UserError(f"{path}: truncated: {len(header)} bytes, expected a header of {4 + 4 * dims}")
    found, *shape = struct.unpack(f">{1 + dims}I", header)
    if found != magic:
        raise UserError(
            f"{path}: magic number 0x{found:08x}, expected 0x{magic:08x} "
            f"(IDX, unsigned bytes, {dims} dimension{'s' * (dims > 1)})"
        )
    if tuple(shape[1:]) != item or shape[0] == 0:
        expected = "×".join(("N", *map(str, item)))
        raise UserError(
            f"{path}: its header says {'×'.join(map(str, shape))}, expected {expected} with N > 0"
        )
    return tuple(shape)


def _check_idx_length(path: Path, found: int, shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    if found < size:
        raise UserError(f"{path}: truncated: {found} bytes after the header, which announces {size}")
    if found > size:
        raise UserError(f"{path}: trailing bytes: the header announces {size}, the file goes on after them")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what can go wrong in reading ``path`` into a UserError that names it."""
    try:
        yield
    except EOFError as error:
        raise UserError(f"{path}: truncated gzip file: it ends before its end mark") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: not a valid gzip file: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
