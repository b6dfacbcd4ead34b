"""Commands that must fail cleanly, in a folder with tiny data, and what they say."""

from pathlib import Path
from typing import Any

from official_formats import write_cifar10, write_fashion_mnist

from sgdlit.cli.main import main

CONFIG = """
name: run
model:
  class_path: sgdlit.training.module.Training
  init_args:
    network: {{class_path: sgdlit.models.MLP, init_args: {{widths: [{inputs}, 8, 10]}}}}
    optimizer: {{class_path: torch.optim.SGD, init_args: {{lr: 0.01}}}}
data:
  class_path: {data}
  init_args: {{root: data, batch_size: 20}}
trainer: {{max_steps: 4, accelerator: cpu, enable_progress_bar: false, log_every_n_steps: 1}}
"""
CIFAR10 = CONFIG.format(inputs=3072, data="sgdlit.data.finite.cifar10.CIFAR10")
FASHION_MNIST = CONFIG.format(inputs=784, data="sgdlit.data.finite.fashion_mnist.FashionMNIST")


def write_folder() -> None:
    """Tiny data (100 CIFAR-10 and 60 Fashion-MNIST examples) and two configs, in the working folder."""
    write_cifar10(Path("data"))
    write_fashion_mnist(Path("data"))
    Path("cifar.yaml").write_text(CIFAR10)
    Path("fashion.yaml").write_text(FASHION_MNIST)


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    facts = {str(path): path.stat() for path in sorted(folder.rglob("*"))}
    return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in facts.items()}


def refused(capsys: Any, *arguments: object, command: str = "fit", untouched: Path | None = None) -> str:
    """The error of a command that must fail cleanly."""
    folders = [Path(), *([untouched] if untouched else [])]
    before = [contents(folder) for folder in folders]
    capsys.readouterr()
    assert main([command, *map(str, arguments)]) == 2
    out, text = capsys.readouterr()
    assert [contents(folder) for folder in folders] == before
    assert out == ""
    assert "Traceback" not in text
    assert "Union subtypes" not in text
    assert len(text.splitlines()) <= 15
    return text[text.index("sgdlit: error: ") + 15 :].rstrip("\n")
