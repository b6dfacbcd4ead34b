"""Readers against files written byte by byte from the formats' definitions, whole and damaged."""

import contextlib
import gzip
import re

import numpy as np
import pytest
from official_formats import (
    cifar10_bytes,
    examples,
    fashion_mnist_files,
    idx_bytes,
    write_cifar10,
    write_fashion_mnist,
)

from sgdlit.data.finite.cifar10 import CIFAR10
from sgdlit.data.finite.fashion_mnist import FashionMNIST
from sgdlit.data.official_files import DataMissing
from sgdlit.data.reading import memory_map_records
from sgdlit.foundations.errors import UserError

read_cifar10, read_fashion_mnist = CIFAR10.files.read, FashionMNIST.files.read


def refusal(call, *args, kind=UserError, **kwargs) -> str:
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize("inner", [".", "cifar-10-batches-bin"])
def test_cifar10_returns_what_was_written(tmp_path, inner):
    write_cifar10(tmp_path, per_file=7, test=3)
    images, labels = read_cifar10(tmp_path / inner, train=True)
    written = [examples(7, (3, 32, 32), k) for k in range(5)]
    assert np.array_equal(images, np.concatenate([i for i, _ in written]))
    assert np.array_equal(labels, np.concatenate([j for _, j in written]))
    assert (images.dtype, labels.dtype, images.shape) == (np.uint8, np.int64, (35, 3, 32, 32))
    images, labels = read_cifar10(tmp_path / inner, train=False)
    assert np.array_equal(images, examples(3, (3, 32, 32), 5)[0])
    assert labels.tolist() == [0, 1, 2]


def test_planes_are_red_green_blue_and_rows_come_first(tmp_path):
    folder = write_cifar10(tmp_path, per_file=1)
    record = bytearray(3073)
    record[0], record[1], record[1 + 1024 + 32], record[1 + 2 * 1024 + 1] = 9, 10, 20, 30
    (folder / "test_batch.bin").write_bytes(record)
    images, labels = read_cifar10(tmp_path, train=False)
    assert labels.tolist() == [9]
    assert (images[0, 0, 0, 0], images[0, 1, 1, 0], images[0, 2, 0, 1]) == (10, 20, 30)


def test_one_file_is_a_view_of_a_read_only_map(tmp_path):
    folder = write_cifar10(tmp_path)
    images, _ = read_cifar10(tmp_path, train=False)
    assert isinstance(images, np.memmap)
    assert not images.flags.owndata
    assert not images.flags.writeable
    with open(folder / "test_batch.bin", "r+b") as file:  # a map shows what the file now says
        file.seek(1)
        file.write(bytes([255 - int(images[0, 0, 0, 0])]))
    again, _ = read_cifar10(tmp_path, train=False)
    assert images[0, 0, 0, 0] == again[0, 0, 0, 0]


def test_a_file_larger_than_memory_is_mapped(tmp_path):
    path, count = tmp_path / "large.bin", 2**40 // 3074
    with open(path, "wb") as file:
        file.truncate(count * 3074)  # sparse: a tebibyte that takes no room
    images, labels = memory_map_records(path, label_bytes=2)
    assert images.shape == (count, 3, 32, 32)
    assert labels.shape == (count, 2)
    assert images[-1].sum() == 0


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("inner", ["fashion-mnist", "FashionMNIST/raw", "."])
def test_fashion_mnist_returns_what_was_written(tmp_path, gz, inner):
    folder = tmp_path / inner
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in fashion_mnist_files(train=12, test=5, gz=gz).items():
        (folder / name).write_bytes(content)
    for train, count, seed in ((True, 12, 0), (False, 5, 1)):
        images, labels = read_fashion_mnist(tmp_path, train)
        expected, classes = examples(count, (28, 28), seed)
        assert np.array_equal(images[:, 0], expected)
        assert np.array_equal(labels, classes)
        assert (images.dtype, labels.dtype, images.shape) == (np.uint8, np.int64, (count, 1, 28, 28))
        assert isinstance(images, np.memmap) is not gz


def test_missing_data_names_the_files_and_the_command(tmp_path):
    root = tmp_path / "no such"
    text = refusal(read_cifar10, root, True, kind=DataMissing)
    assert "no such folder" in text
    assert text.endswith(f"python -m sgdlit data cifar10 --root '{root}'")
    text = refusal(read_fashion_mnist, tmp_path, False, kind=DataMissing)
    assert "t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz" in text
    assert text.endswith(f"python -m sgdlit data fashion-mnist --root {tmp_path}")
    (write_cifar10(tmp_path) / "data_batch_3.bin").unlink()
    assert "not complete (missing: data_batch_3.bin)" in refusal(
        read_cifar10, tmp_path, True, kind=DataMissing
    )
    assert len(read_cifar10(tmp_path, train=False)[0]) == 20


def test_the_pickled_version_is_not_read_and_named(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    for root in (tmp_path, tmp_path / "cifar-10-batches-py"):
        text = refusal(read_cifar10, root, True, kind=DataMissing)
        assert "is a pickle" in text
        assert "cifar-10-binary.tar.gz" in text


@pytest.mark.parametrize("size", [0, 1, 3072, 5 * 3073 - 1, 5 * 3073 + 1])
def test_a_bin_file_of_no_whole_number_of_records(tmp_path, size):
    path = write_cifar10(tmp_path) / "data_batch_2.bin"
    path.write_bytes(bytes(size))
    text = refusal(read_cifar10, tmp_path, True)
    assert text.startswith(f"{path}: {size} bytes are {size // 3073} records and {size % 3073} bytes more")
    assert "3073 bytes (1 label + 3072 pixels)" in text


def test_label_11_is_named_with_its_record(tmp_path):
    images, labels = examples(8, (3, 32, 32))
    labels[5] = 11
    path = write_cifar10(tmp_path) / "data_batch_4.bin"
    path.write_bytes(cifar10_bytes(images, labels))
    text = refusal(read_cifar10, tmp_path, True)
    assert text.startswith(f"{path}: label 11 in record 5 (counted from 0; 1 such); expected 0 to 9")
    path = write_fashion_mnist(tmp_path) / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.full(20, 11, np.uint8))))
    text = refusal(read_fashion_mnist, tmp_path, False)
    assert text.startswith(f"{path}: label 11 in record 0 (counted from 0; 20 such)")


def with_byte(content: bytes, position: int, value: int) -> bytes:
    return content[:position] + bytes([value]) + content[position + 1 :]


DAMAGE = {
    "empty": (lambda c: b"", "truncated: 0 bytes, expected a header of 16"),
    "half a header": (lambda c: c[:9], "truncated: 9 bytes, expected a header of 16"),
    "last byte missing": (lambda c: c[:-1], "truncated: 47039 bytes after the header, which announces 47040"),
    "one byte more": (lambda c: c + b"\0", "trailing bytes: the header announces 47040"),
    "signed bytes": (lambda c: with_byte(c, 2, 9), "magic number 0x00000903, expected 0x00000803"),
    "labels' magic": (lambda c: with_byte(c, 3, 1), "magic number 0x00000801, expected 0x00000803"),
    "27 rows": (lambda c: with_byte(c, 11, 27), "header says 60×27×28, expected N×28×28"),
    "no images": (lambda c: with_byte(c, 7, 0), "header says 0×28×28, expected N×28×28 with N > 0"),
    "four billion images": (lambda c: c[:4] + b"\xff" * 4 + c[8:], "truncated: 47040 bytes after the header"),
}


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_idx_files(tmp_path, gz, damage):
    folder = write_fashion_mnist(tmp_path, gz=gz)
    path = folder / f"train-images-idx3-ubyte{'.gz' if gz else ''}"
    change, message = DAMAGE[damage]
    content = change(fashion_mnist_files(gz=False)["train-images-idx3-ubyte"])
    path.write_bytes(gzip.compress(content) if gz else content)
    text = refusal(read_fashion_mnist, tmp_path, True)
    assert text.startswith(f"{path}: ")
    assert message in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[: len(c) // 2], "truncated gzip file"),
        (lambda c: c[:-1], "truncated gzip file"),
        (lambda c: c[:12], "truncated gzip file"),
        (lambda c: b"PK" + c[2:], "not a valid gzip file: Not a gzipped file"),
        (lambda c: with_byte(c, len(c) - 6, c[-6] ^ 1), "not a valid gzip file: CRC check failed"),
        (lambda c: c + b"garbage", "not a valid gzip file"),
    ],
    ids=["half", "last byte", "header only", "zip", "crc", "garbage after"],
)
def test_damaged_gzip(tmp_path, change, message):
    path = write_fashion_mnist(tmp_path) / "train-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    text = refusal(read_fashion_mnist, tmp_path, True)
    assert text.startswith(f"{path}: {message}")


def test_every_single_flipped_bit_of_a_deflate_stream_is_an_error_or_harmless(tmp_path):
    """CRC-32 finds every single-bit error, so no flip may change what is read (RFC 1952)."""
    path = write_fashion_mnist(tmp_path, test=10) / "t10k-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    labels = list(range(10))
    for bit in range(8 * len(whole)):
        path.write_bytes(with_byte(whole, bit // 8, whole[bit // 8] ^ 1 << bit % 8))
        with contextlib.suppress(UserError):
            assert read_fashion_mnist(tmp_path, train=False)[1].tolist() == labels


def test_images_and_labels_of_unequal_length(tmp_path):
    folder = write_fashion_mnist(tmp_path, train=60)
    other = fashion_mnist_files(train=59)["train-labels-idx1-ubyte.gz"]
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(other)
    text = refusal(read_fashion_mnist, tmp_path, True)
    assert re.search(r"train-images\S+ holds 60 images but \S+train-labels\S+ holds 59 labels", text)


def test_real_fashion_mnist(real_data):
    """Counts and pixel statistics: mean 0.2860, standard deviation 0.3530, 6000 images of each class."""
    if not (real_data / "fashion-mnist").is_dir():
        pytest.skip(f"no real Fashion-MNIST in {real_data} (set SGDLIT_DATA)")
    images, labels = read_fashion_mnist(real_data, train=True)
    assert np.bincount(labels).tolist() == [6000] * 10
    pixels = np.bincount(images.ravel(), minlength=256) / images.size
    mean = pixels @ np.arange(256) / 255
    std = np.sqrt(pixels @ (np.arange(256) / 255) ** 2 - mean**2)
    assert (round(mean, 4), round(std, 4)) == (0.2860, 0.3530)
    images, labels = read_fashion_mnist(real_data, train=False)
    assert images.shape == (10_000, 1, 28, 28)
    assert np.bincount(labels).tolist() == [1000] * 10


def test_real_cifar10(real_data):
    """Counts; channel means within 0.0005 of the published 0.4914 0.4822 0.4465 (for JPEG copies)."""
    if not (real_data / "cifar-10-batches-bin").is_dir():
        pytest.skip(f"no CIFAR-10 in the binary layout in {real_data} (set SGDLIT_DATA)")
    images, labels = read_cifar10(real_data, train=True)
    assert np.bincount(labels).tolist() == [5000] * 10
    means = images.sum((0, 2, 3), dtype=np.int64) / (255 * 50_000 * 1024)
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=5e-4)
    assert np.bincount(read_cifar10(real_data, train=False)[1]).tolist() == [1000] * 10
