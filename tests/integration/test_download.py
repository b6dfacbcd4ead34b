"""The ``data`` command against a server on loopback: whole, cut, truncated, corrupted, absent."""

import errno
import gzip
import hashlib
import http.server
import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from official_formats import (
    cifar10_archive,
    examples,
    fashion_mnist_files,
    write_cifar10,
    write_fashion_mnist,
)

from sgdlit.cli import data as command
from sgdlit.cli.data import channel_statistics
from sgdlit.data import download
from sgdlit.data.download import fetch
from sgdlit.data.finite.cifar10 import CIFAR10
from sgdlit.data.finite.fashion_mnist import FashionMNIST
from sgdlit.data.official_files import OfficialFiles
from sgdlit.foundations.errors import UserError

read_cifar10, read_fashion_mnist = CIFAR10.files.read, FashionMNIST.files.read

ARCHIVE = "cifar-10-binary.tar.gz"
# pooch leaves the connection of a failed download to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@dataclass
class Server:
    """What the server has, how it misbehaves, and what it was asked."""

    files: dict[str, bytes]
    url: str = ""
    cut: int | None = None  # closes the connection after so many bytes of a body
    announce: bool = True  # sends Content-Length
    asked: list[str] = field(default_factory=list)  # files of all requests

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        name = handler.path.rsplit("/", 1)[-1]
        self.asked.append(name)
        body = self.files.get(name)
        if body is None:
            handler.send_error(404)
            return
        handler.send_response(200)
        if "gzip" in handler.headers.get("Accept-Encoding", ""):  # as many servers do: other bytes on the way
            handler.send_header("Content-Encoding", "gzip")
            body = gzip.compress(body)
        if self.announce:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cut])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server({ARCHIVE: cifar10_archive(), **fashion_mnist_files()})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.answer(self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{running.server_port}/somewhere"
        yield state
        running.shutdown()
        thread.join()


def hashed(dataset: OfficialFiles, server: Server) -> OfficialFiles:
    """The dataset with the hashes of the server's small files in place of the official ones."""
    hashes = {name: hashlib.md5(server.files[name]).hexdigest() for name in dataset.hashes}
    return replace(dataset, hashes=hashes, base_url=server.url)


def refusal(*args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        fetch(*args, progress=False, **kwargs)
    return str(caught.value)


def names(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()} if root.exists() else set()


def test_cifar10_is_fetched_unpacked_and_not_fetched_again(tmp_path, server):
    dataset, root = hashed(CIFAR10.files, server), tmp_path / "new" / "data"
    folder, added = fetch(dataset, root)
    assert folder == root / "cifar-10-batches-bin"
    assert sorted(added) == sorted(CIFAR10.files.names)
    assert names(root) == {ARCHIVE, *(f"cifar-10-batches-bin/{m}" for m in CIFAR10.files.names)}
    images, labels = read_cifar10(root, train=True)
    assert np.array_equal(images, np.concatenate([examples(20, (3, 32, 32), k)[0] for k in range(5)]))
    assert np.bincount(labels).tolist() == [10] * 10
    assert fetch(dataset, root) == (folder, [])
    assert server.asked == [ARCHIVE]


def test_fashion_mnist_is_fetched_and_completed(tmp_path, server):
    dataset = hashed(FashionMNIST.files, server)
    folder, added = fetch(dataset, tmp_path)
    assert folder == tmp_path / "fashion-mnist"
    assert added == list(FashionMNIST.files.hashes)
    assert download.official(dataset, folder)
    assert len(read_fashion_mnist(tmp_path, train=True)[0]) == 60
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    server.asked.clear()
    assert fetch(dataset, tmp_path) == (folder, ["t10k-labels-idx1-ubyte.gz"])
    assert server.asked == ["t10k-labels-idx1-ubyte.gz"]


def test_files_are_readable_to_others_as_the_umask_says(tmp_path, server):
    fetch(hashed(CIFAR10.files, server), tmp_path)
    (tmp_path / "reference").touch()
    expected = (tmp_path / "reference").stat().st_mode
    assert {(tmp_path / n).stat().st_mode for n in names(tmp_path)} == {expected}


@pytest.mark.parametrize("announce", [True, False])
def test_a_cut_connection_leaves_nothing(tmp_path, server, announce):
    """Where the answer states no length a cut looks like its end: the hash finds it."""
    files, whole = hashed(CIFAR10.files, server), server.files[ARCHIVE]
    server.announce, server.cut = announce, len(whole) // 2
    text = refusal(files, tmp_path)
    assert text.startswith(f"{server.url}/{ARCHIVE}: ")
    assert ("download failed: " if announce else "does not match") in text
    assert names(tmp_path) == set()
    server.cut = None
    fetch(files, tmp_path)
    assert (tmp_path / ARCHIVE).read_bytes() == whole


def test_a_corrupted_download_leaves_nothing(tmp_path, server):
    dataset, whole = hashed(CIFAR10.files, server), server.files[ARCHIVE]
    damaged = bytearray(whole)
    damaged[100] ^= 1
    server.files[ARCHIVE] = bytes(damaged)
    text = refusal(dataset, tmp_path)
    assert text.startswith(f"{server.url}/{ARCHIVE}: ")
    assert f"expected md5:{hashlib.md5(whole).hexdigest()} but got {hashlib.md5(damaged).hexdigest()}" in text
    assert names(tmp_path) == set()
    server.files[ARCHIVE] = whole
    fetch(dataset, tmp_path)
    assert len(read_cifar10(tmp_path, train=False)[0]) == 20


def test_a_truncated_file_on_the_server_leaves_nothing(tmp_path, server):
    dataset, name = hashed(FashionMNIST.files, server), "t10k-images-idx3-ubyte.gz"
    server.files[name] = server.files[name][:-100]
    assert "does not match the known hash" in refusal(dataset, tmp_path)
    assert names(tmp_path) == {f"fashion-mnist/{n}" for n in list(dataset.hashes)[:2]}


def test_other_files_are_neither_overwritten_nor_mixed(tmp_path, server):
    cifar10, fashion_mnist = hashed(CIFAR10.files, server), hashed(FashionMNIST.files, server)
    (tmp_path / ARCHIVE).write_bytes(b"mine")
    text = refusal(cifar10, tmp_path)
    assert text.startswith(f"{tmp_path / ARCHIVE}: not the official file (md5 ")
    assert (tmp_path / ARCHIVE).read_bytes() == b"mine"
    for gz in (True, False):
        folder = write_fashion_mnist(tmp_path / str(gz), gz=gz, seed=9)
        (folder / f"t10k-images-idx3-ubyte{'.gz' if gz else ''}").unlink()
        before = names(tmp_path)
        assert "missing may not match it" in refusal(fashion_mnist, tmp_path / str(gz))
        assert names(tmp_path) == before
    assert server.asked == []


def test_an_incomplete_cifar10_is_completed_only_by_its_own_archive(tmp_path, server):
    dataset = hashed(CIFAR10.files, server)
    (write_cifar10(tmp_path / "same") / "data_batch_2.bin").unlink()
    assert fetch(dataset, tmp_path / "same")[1] == ["data_batch_2.bin"]
    folder = write_cifar10(tmp_path / "other", seed=1)
    (folder / "data_batch_2.bin").unlink()
    assert "so the set would be mixed" in refusal(dataset, tmp_path / "other")
    assert not (folder / "data_batch_2.bin").exists()


def test_no_server_and_no_file(tmp_path, server):
    dataset = hashed(CIFAR10.files, server)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    text = refusal(dataset, tmp_path, base_url=f"http://127.0.0.1:{port}/")
    assert text == f"http://127.0.0.1:{port}/{ARCHIVE}: download failed: Connection refused"
    del server.files[ARCHIVE]
    assert refusal(dataset, tmp_path).endswith(
        f"{ARCHIVE}: download failed: the server answers 404 Not Found"
    )
    assert "download failed: No connection adapters" in refusal(dataset, tmp_path, base_url="nonsense:/x")
    assert names(tmp_path) == set()


def ending_with(error: BaseException):
    """A transfer that ends with an error after its first bytes."""

    def transfer(downloader, url, output_file, pooch):
        Path(output_file).write_bytes(b"first")
        raise error

    return transfer


def test_a_full_disk(tmp_path, server, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("pooch.HTTPDownloader.__call__", ending_with(full))
    text = refusal(hashed(CIFAR10.files, server), tmp_path)
    assert f"{tmp_path / ARCHIVE}: cannot be written: No space left on device" in text
    assert names(tmp_path) == set()


def test_a_root_that_cannot_be_made(tmp_path, server):
    (tmp_path / "file").touch()
    text = refusal(hashed(CIFAR10.files, server), tmp_path / "file" / "data")
    assert "cannot be written: Not a directory" in text


def test_an_archive_writes_only_the_named_members(tmp_path, server):
    """Absolute paths, parent folders and links in a tar decide nothing."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        link = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name in (
            "../../outside.bin",
            "/tmp/absolute.bin",
            *CIFAR10.files.names[1:],
            "../data_batch_1.bin",
        ):
            info = tarfile.TarInfo(name)
            info.size = 3073
            tar.addfile(info, io.BytesIO(bytes(3073)))
    server.files[ARCHIVE] = out.getvalue()
    root = tmp_path / "a" / "b"
    fetch(hashed(CIFAR10.files, server), root)
    assert names(tmp_path) == {
        f"a/b/{ARCHIVE}",
        *(f"a/b/cifar-10-batches-bin/{m}" for m in CIFAR10.files.names),
    }


def test_an_archive_that_is_none_or_lacks_a_member(tmp_path, server):
    server.files[ARCHIVE] = b"not a tar"
    assert "not a readable tar.gz" in refusal(hashed(CIFAR10.files, server), tmp_path / "1")
    server.files[ARCHIVE] = cifar10_archive()[:-5000]
    assert "not a readable tar.gz" in refusal(hashed(CIFAR10.files, server), tmp_path / "2")
    out = io.BytesIO()
    tarfile.open(fileobj=out, mode="w:gz").close()
    server.files[ARCHIVE] = out.getvalue()
    text = refusal(hashed(CIFAR10.files, server), tmp_path / "3")
    assert text.endswith(f"{ARCHIVE}: holds no {', '.join(sorted(CIFAR10.files.names))}")
    assert names(tmp_path) == {f"{k}/{ARCHIVE}" for k in (1, 2, 3)}


@pytest.mark.parametrize("cls", [CIFAR10, FashionMNIST])
def test_the_command_fetches_reads_and_says_what_is_there(tmp_path, server, cls, monkeypatch, capsys):
    files = hashed(cls.files, server)
    monkeypatch.setattr(cls, "files", files)
    root = tmp_path / "with space"
    assert command.main([files.name, "--root", str(root)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{files.title}: fetched ")
    assert f"In {root / files.folders[0]}:" in out
    train = {"cifar10": "train  100 images of 3×32×32, 10 classes (10 images each)"}
    assert train.get(files.name, "train  60 images of 1×28×28, 10 classes (6 images each)") in out
    assert "Not the whole dataset" in out
    assert f"--config {files.config} --data.root '{root}'" in out
    server.files.clear()
    assert command.main([files.name, "--root", str(root)]) == 0
    assert "all files are already there, nothing fetched" in capsys.readouterr().out


def test_a_set_that_is_made_needs_no_files(tmp_path, capsys):
    assert command.main(["shapes", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "Shapes: made when a run asks for it, nothing to fetch\n"


def test_the_command_stops_at_a_damaged_file(tmp_path):
    folder = write_cifar10(tmp_path)
    (folder / "data_batch_5.bin").write_bytes(bytes(3072))
    with pytest.raises(UserError, match=r"data_batch_5\.bin: 3072 bytes are 0 records"):
        command.main(["cifar10", "--root", str(tmp_path)])


def test_ctrl_c_leaves_nothing(tmp_path, server, monkeypatch, capsys):
    monkeypatch.setattr("pooch.HTTPDownloader.__call__", ending_with(KeyboardInterrupt()))
    monkeypatch.setattr(CIFAR10, "files", hashed(CIFAR10.files, server))
    assert command.main(["cifar10", "--root", str(tmp_path)]) == 130
    assert "Stopped" in capsys.readouterr().err
    assert names(tmp_path) == set()


def test_channel_statistics_are_numpys(tmp_path):
    images, _ = examples(1234, (3, 32, 32))
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, images.mean((0, 2, 3)) / 255, rtol=1e-12)
    np.testing.assert_allclose(std, images.std((0, 2, 3)) / 255, rtol=1e-12)


def test_the_help_needs_neither_torch_nor_numpy():
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded:', {'numpy', 'torch'} & set(sys.modules)))\n"
        "from sgdlit.cli.data import main; main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded: set()\n")


def test_the_choices_are_the_sets():
    allowed = "name: 'mnist' is not allowed; allowed: cifar10, fashion-mnist, shapes"
    with pytest.raises(UserError, match=allowed):
        command.main(["mnist", "--root", "x"])
