"""Writes tiny valid files in the official formats of finite sets (binary records and IDX), for any test.

The pixels are hashed noise around a brightness that rises with the label, so that a model can learn them;
they depend on the arguments alone.
"""

import gzip
import hashlib
import io
import struct
import tarfile
from pathlib import Path

import numpy as np

from sgdlit.data.official_files import OfficialFiles
from sgdlit.data.reading import Idx, Records

CIFAR10_FILES = (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin")


def examples(count: int, shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (count, *shape), and labels 0, 1, …, 9, 0, …, uint8 (count,)."""
    size = count * int(np.prod(shape))
    noise = np.frombuffer(hashlib.shake_128(f"{seed}|{shape}".encode()).digest(size), np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    brightness = (14 * labels).reshape(-1, *(1 for _ in shape))
    return noise.reshape(count, *shape) // 2 + brightness, labels


def cifar10_bytes(images: np.ndarray, labels: np.ndarray, label_bytes: int = 1) -> bytes:
    """The content of one binary file: records of the label in each of some bytes, and the pixels."""
    columns = [labels[:, None]] * label_bytes
    return np.concatenate([*columns, images.reshape(len(images), -1)], 1).astype(np.uint8).tobytes()


def write_cifar10(root: Path, per_file: int = 20, test: int | None = None, seed: int = 0) -> Path:
    """Makes ``root/cifar-10-batches-bin``: five training files, and a test file of ``test or per_file``."""
    folder = Path(root) / "cifar-10-batches-bin"
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(CIFAR10_FILES):
        count = test if test is not None and name == "test_batch.bin" else per_file
        (folder / name).write_bytes(cifar10_bytes(*examples(count, (3, 32, 32), 10 * seed + k)))
    return folder


def cifar10_archive(per_file: int = 20, seed: int = 0) -> bytes:
    """The content of a ``cifar-10-binary.tar.gz`` with the official layout; its files are write_cifar10's."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for k, name in enumerate(CIFAR10_FILES):
            content = cifar10_bytes(*examples(per_file, (3, 32, 32), 10 * seed + k))
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def idx_bytes(array: np.ndarray) -> bytes:
    """The content of an IDX file of unsigned bytes."""
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def fashion_mnist_files(train: int = 60, test: int = 20, gz: bool = True, seed: int = 0) -> dict[str, bytes]:
    """Official name (with ``.gz`` where gzipped) and content of the four files."""
    files = {}
    for k, (prefix, count) in enumerate((("train", train), ("t10k", test))):
        images, labels = examples(count, (28, 28), 10 * seed + k)
        files[f"{prefix}-images-idx3-ubyte"] = idx_bytes(images)
        files[f"{prefix}-labels-idx1-ubyte"] = idx_bytes(labels)
    return {f"{n}.gz": gzip.compress(c, mtime=0) for n, c in files.items()} if gz else files


def write_fashion_mnist(root: Path, train: int = 60, test: int = 20, gz: bool = True, seed: int = 0) -> Path:
    """Makes ``root/fashion-mnist`` with the four files."""
    folder = Path(root) / "fashion-mnist"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in fashion_mnist_files(train, test, gz, seed).items():
        (folder / name).write_bytes(content)
    return folder


def write_official(files: OfficialFiles, root: Path, train: int = 40, test: int = 20) -> Path:
    """Makes the files of any set in a known format below ``root``, which it returns."""
    folder = Path(root) / files.folders[0]
    folder.mkdir(parents=True, exist_ok=True)
    for k, (names, count) in enumerate(((files.train, train), (files.test, test))):
        images, labels = examples(count, files.format.shape, k)
        match files.format:
            case Records(label_bytes=width):
                parts = zip(
                    np.array_split(images, len(names)), np.array_split(labels, len(names)), strict=True
                )
                contents = [cifar10_bytes(x, y, width) for x, y in parts]
            case Idx():
                contents = [idx_bytes(images[:, 0]), idx_bytes(labels)]
        for name, content in zip(names, contents, strict=True):
            (folder / name).write_bytes(content)
    return Path(root)
