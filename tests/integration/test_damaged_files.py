"""Data and checkpoints that are damaged, carry code, or are those of another run: refused, and left alone."""

import gzip
import os
from pathlib import Path

import pytest
import torch
from official_formats import write_cifar10
from refused_commands import CIFAR10, refused, write_folder

from sgdlit.cli.main import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with tiny data and two configs."""
    monkeypatch.chdir(tmp_path)
    write_folder()
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a finished run of four steps."""
    here, there = Path.cwd(), tmp_path_factory.mktemp("finished")
    os.chdir(there)
    try:
        write_cifar10(Path("data"))
        Path("cifar.yaml").write_text(CIFAR10)
        assert main(["fit", "--config", "cifar.yaml"]) == 0
    finally:
        os.chdir(here)
    return there / "logs" / "run" / "version_0"


def damage(path: str, content: bytes) -> Path:
    assert Path(path).is_file()
    Path(path).write_bytes(content)
    return Path(path)


def test_damaged_cifar10(capsys):
    path = "data/cifar-10-batches-bin/data_batch_2.bin"
    whole = Path(path).read_bytes()
    damage(path, whole[:-5])
    text = refused(capsys, "--config", "cifar.yaml")
    assert path in text
    assert "Truncated" in text
    damage(path, b"\x0b" + whole[1:])
    text = refused(capsys, "--config", "cifar.yaml")
    assert f"{path}: label 11 in record 0" in text
    assert "expected 0 to 9" in text


def test_damaged_fashion_mnist(capsys):
    path = "data/fashion-mnist/train-images-idx3-ubyte.gz"
    packed = Path(path).read_bytes()
    damage(path, packed[:-100])
    assert f"{path}: truncated gzip file" in refused(capsys, "--config", "fashion.yaml")
    damage(path, gzip.compress(b"\0\0\x08\x01" + gzip.decompress(packed)[4:]))
    text = refused(capsys, "--config", "fashion.yaml")
    assert f"{path}: magic number 0x00000801, expected 0x00000803" in text


def test_checkpoint_of_another_model(run, capsys):
    path = run / "checkpoints" / "resume.ckpt"
    for command in ("fit", "test"):
        text = refused(
            capsys, "--config", "cifar.yaml", "--ckpt_path", path, "--model.network.widths", "[3072,9,10]",
            command=command, untouched=run,
        )  # fmt: skip
        assert "belongs to another model: 3 parameters differ" in text
        assert "(8, 3072) in the file, (9, 3072) in the model" in text


class Hostile:
    def __reduce__(self):
        return open, ("pwned", "w")


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_checkpoint_that_carries_code(run, command, capsys):
    content = torch.load(run / "checkpoints" / "resume.ckpt", weights_only=True)
    torch.save({**content, "extra": Hostile()}, "hostile.ckpt")
    for more in ([], ["--weights_only", "false"]):
        arguments = ["--config", "cifar.yaml", "--ckpt_path", "hostile.ckpt", *more]
        text = refused(capsys, *arguments, command=command)
        assert "'hostile.ckpt' cannot be read safely: loading it would call io.open" in text
        assert not Path("pwned").exists()
    torch.load("hostile.ckpt", weights_only=False)["extra"].close()
    assert Path("pwned").exists(), "the file was harmless, so the test showed nothing"


def test_damaged_checkpoints(run, capsys):
    whole = (run / "checkpoints" / "resume.ckpt").read_bytes()
    Path("garbage.ckpt").write_bytes(b"garbage" * 50)
    Path("half.ckpt").write_bytes(whole[: len(whole) // 2])
    torch.save([1], "list.ckpt")
    content = torch.load(run / "checkpoints" / "resume.ckpt", weights_only=True)
    del content["optimizer_states"]
    torch.save(content, "parts.ckpt")
    expected = {
        "garbage.ckpt": "is damaged, or no checkpoint",
        "half.ckpt": "is damaged, or no checkpoint",
        "list.ckpt": "not a whole checkpoint",
        "parts.ckpt": "not a whole checkpoint: it has no 'optimizer_states'",
        "none.ckpt": "does not exist",
    }
    for name, reason in expected.items():
        text = refused(capsys, "--config", "cifar.yaml", "--ckpt_path", name)
        assert text.startswith(f"ckpt_path: '{name}' ")
        assert reason in text


OTHER = {
    "--data.batch_size 50": "batch_size: 20 there, 50 here",
    "--data.train_size 60": "examples: 100 there, 60 here",
    "--model.optimizer Adam": "another optimizer than Adam",
}


@pytest.mark.parametrize("arguments", OTHER)
def test_a_run_is_not_resumed_as_another_and_stays_as_it_was(run, arguments, capsys):
    root = ["--data.root", str(Path("data").resolve())]
    text = refused(capsys, "--resume", run, *root, *arguments.split(), untouched=run)
    assert text.startswith("ckpt_path: the checkpoint was made with ")
    assert OTHER[arguments] in text


def test_a_run_is_not_resumed_on_files_of_which_a_byte_has_changed(run, capsys):
    path = Path("data/cifar-10-batches-bin/data_batch_1.bin")
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    text = refused(capsys, "--resume", run, "--data.root", str(Path("data").resolve()), untouched=run)
    assert "made with other data and cannot be resumed: checksums of the files: [" in text


def test_a_checkpoint_is_not_resumed_on_data_of_another_class(run, capsys):
    arguments = ["--data", "Shapes", "--data.train_size", "40", "--data.test_size", "10"]
    text = refused(capsys, "--resume", run, *arguments, untouched=run)
    assert "made with other data than Shapes" in text
