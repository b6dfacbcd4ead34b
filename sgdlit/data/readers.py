"""Reads CIFAR-10 (binary version) and Fashion-MNIST (IDX) from disk: numpy arrays, never a pickle.

A reader trusts nothing in a file: lengths, magic numbers, dimensions and labels are checked before an array
leaves it, and every error names the file, what was found and what is expected. How many examples there are is
not checked, so small files in the official formats are read as well.

What lies in one unpacked file is memory-mapped read-only, so that it may be larger than the memory: the
pixels are views of the file, paged in as they are visited. CIFAR-10's training set is five files; they are
joined into one array in memory (154 MB). Gzipped files are unpacked into memory (47 MB for Fashion-MNIST).
``torch.tensor(images)`` takes either kind (it copies); ``torch.from_numpy`` warns on a read-only map.
"""

import gzip
import math
import shlex
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sgdlit.foundations.errors import UserError

CLASSES = 10
CIFAR10_TRAIN = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
CIFAR10_TEST = ("test_batch.bin",)
CIFAR10_FOLDERS = (".", "cifar-10-batches-bin")
FASHION_MNIST_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
FASHION_MNIST_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FASHION_MNIST_FOLDERS = (".", "fashion-mnist", "FashionMNIST/raw")

_MAX_DEFLATE_RATIO = 1032  # zlib's limit: a gzip file cannot hold more than this many bytes per byte


class DataMissing(UserError):
    """The files are not there; the message says which, where they were looked for, and how to fetch them."""


def read_cifar10(root: Path | str, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """One split of CIFAR-10 (Krizhevsky, 2009), binary version: records of 1 label and 3072 pixel bytes.

    Args:
        root: the folder of ``data_batch_1.bin`` … ``data_batch_5.bin`` and ``test_batch.bin``, or its parent
            if it is called ``cifar-10-batches-bin``. Files may hold any whole number of records.
        train: the five training files in their order, or the test file.

    Returns:
        Images, uint8 of shape (N, 3, 32, 32) with planes red, green, blue (test: a read-only map);
        labels, int64 of shape (N,), values 0 … 9.

    Raises:
        DataMissing: a file is not there.
        UserError: a file is truncated, unreadable, or holds a label above 9.
    """
    names = CIFAR10_TRAIN if train else CIFAR10_TEST
    folder = locate(root, CIFAR10_FOLDERS, CIFAR10_TRAIN + CIFAR10_TEST)
    missing = [name for name in names if folder is None or not (folder / name).is_file()]
    if missing:
        raise _missing(
            "CIFAR-10", "cifar10", root, folder, CIFAR10_FOLDERS, missing, _pickled_note(Path(root))
        )
    images, labels = zip(*(_read_cifar10_file(folder / name) for name in names), strict=True)
    return images[0] if len(images) == 1 else np.concatenate(images), np.concatenate(labels)


def read_fashion_mnist(root: Path | str, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """One split of Fashion-MNIST from its IDX files, gzipped or not (Xiao et al., arXiv:1708.07747).

    Args:
        root: the folder of ``train-images-idx3-ubyte`` and so on (each with or without ``.gz``), or its
            parent if it is called ``fashion-mnist`` or ``FashionMNIST/raw``. Files may hold any number of
            examples.
        train: the ``train`` pair of files or the ``t10k`` pair.

    Returns:
        Images, uint8 of shape (N, 1, 28, 28) (a read-only map where the file is not gzipped);
        labels, int64 of shape (N,), values 0 … 9.

    Raises:
        DataMissing: a file is not there.
        UserError: a file is truncated, too long, damaged, of another kind or shape, the two files disagree in
            length, or a label is above 9.
    """
    names = FASHION_MNIST_TRAIN if train else FASHION_MNIST_TEST
    folder = locate(root, FASHION_MNIST_FOLDERS, with_gzip(FASHION_MNIST_TRAIN + FASHION_MNIST_TEST))
    paths = [None if folder is None else plain_or_gzipped(folder, name) for name in names]
    missing = [f"{name}.gz" for name, path in zip(names, paths, strict=True) if path is None]
    if missing:
        raise _missing("Fashion-MNIST", "fashion-mnist", root, folder, FASHION_MNIST_FOLDERS, missing)
    images, labels = _read_idx(paths[0], (28, 28)), _read_idx(paths[1], ())
    if len(images) != len(labels):
        raise UserError(f"{paths[0]} holds {len(images)} images but {paths[1]} holds {len(labels)} labels")
    return images[:, None], _checked_labels(paths[1], labels)


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


def locate(root: Path | str, folders: Sequence[str], names: Sequence[str]) -> Path | None:
    """The folder among ``root/folders`` with most of the files ``names``, the first of equals, or None."""

    def found(folder: Path) -> int:
        return sum((folder / name).is_file() for name in names)

    best = max((Path(root) / folder for folder in folders), key=found)
    return best if found(best) else None


def with_gzip(names: Sequence[str]) -> tuple[str, ...]:
    """Every name, and every name with ``.gz``."""
    return tuple(f"{name}{suffix}" for name in names for suffix in ("", ".gz"))


def plain_or_gzipped(folder: Path, name: str) -> Path | None:
    """The file ``name`` in ``folder``, else ``name.gz``, else None."""
    return next((folder / n for n in with_gzip((name,)) if (folder / n).is_file()), None)


def _missing(
    title: str,
    dataset: str,
    root: Path | str,
    folder: Path | None,
    folders: Sequence[str],
    missing: Sequence[str],
    note: str = "",
) -> DataMissing:
    if not Path(root).is_dir():
        what = f"{root}: no such folder, so no {title}"
    elif folder is None:
        what = f"{root}: no {title} here or in {' or '.join(f for f in folders if f != '.')}"
    else:
        what = f"{folder}: {title} is not complete"
    command = f"python -m sgdlit data {dataset} --root {shlex.quote(str(root))}"
    return DataMissing(f"{what} (missing: {', '.join(missing)}).{note}\nTo fetch it: {command}")


def _pickled_note(root: Path) -> str:
    """A sentence for those who have only the Python version of CIFAR-10."""
    if not (root / "cifar-10-batches-py").is_dir() and not (root / "data_batch_1").is_file():
        return ""
    return (
        " The Python version (cifar-10-batches-py) is there, but it is a pickle, which can run code when "
        "loaded, so it is not read: the binary version (cifar-10-binary.tar.gz) is needed."
    )


def _read_cifar10_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = memory_map_records(path)
    return images, _checked_labels(path, labels[:, 0])


def _checked_labels(path: Path, labels: np.ndarray) -> np.ndarray:
    """The labels as int64 in memory."""
    wrong = np.flatnonzero(labels >= CLASSES)
    if len(wrong):
        raise UserError(
            f"{path}: label {labels[wrong[0]]} in record {wrong[0]} (counted from 0; {len(wrong)} such); "
            f"expected 0 to {CLASSES - 1}. Damaged, or another format?"
        )
    return np.asarray(labels).astype(np.int64)


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
