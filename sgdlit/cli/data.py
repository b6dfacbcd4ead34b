"""The subcommand ``data``: fetches CIFAR-10 or Fashion-MNIST, reads what is there, and says what it is.

It needs neither torch nor Lightning, and its help not even numpy.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sgdlit.cli.parser import CommandParser

if TYPE_CHECKING:
    import numpy as np

    from sgdlit.data.download import Dataset

_OFFICIAL_COUNTS = {"cifar10": (50_000, 10_000), "fashion-mnist": (60_000, 10_000)}
_BLOCK = 1_000


def main(arguments: Sequence[str]) -> int:
    """Runs ``data NAME --root DIR [--base_url URL]``.

    Returns:
        The exit code: 0, or 130 where Ctrl-C stopped a download (its beginning is kept).

    Raises:
        UserError: a mistake in the arguments, the download failed, or a file is damaged.
    """
    args = _parser().parse(arguments)
    from sgdlit.data.download import DATASETS, fetch

    dataset, root = DATASETS[args.name], Path(args.root).expanduser()
    try:
        folder, fetched = fetch(dataset, root, args.base_url)
    except KeyboardInterrupt:
        print("\nStopped. What has arrived is kept: the same command continues.", file=sys.stderr)
        return 130
    if fetched:
        print(f"{dataset.title}: fetched {', '.join(fetched)}")
    else:
        print(f"{dataset.title}: all files are already there, nothing fetched")
    _report(args.name, dataset, root, folder)
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "data",
        "Download a dataset (resumable, verified by hash), read it, and say what is there. "
        "Files that are already there are kept.",
    )
    names = Literal["cifar10", "fashion-mnist"]
    parser.add_argument("name", type=names, help="cifar10 (170 MB) or fashion-mnist (31 MB)")
    parser.add_argument(
        "--root", type=str, required=True, metavar="DIR", help="folder that holds or receives the files"
    )
    parser.add_argument(
        "--base_url", type=str, metavar="URL", help="another server's folder with the same files"
    )
    return parser


def _report(name: str, dataset: "Dataset", root: Path, folder: Path) -> None:
    """Reads both splits and prints what they are."""
    from sgdlit.data import readers
    from sgdlit.data.download import official

    read = {"cifar10": readers.read_cifar10, "fashion-mnist": readers.read_fashion_mnist}[name]
    splits = {split: read(root, train=split == "train") for split in ("train", "test")}
    print(f"In {folder.resolve()}:")
    for split, (images, labels) in splits.items():
        print(f"  {split:<5}  {_describe(images, labels)}")
    counts = tuple(len(labels) for _, labels in splits.values())
    print(f"  {_verdict(counts, _OFFICIAL_COUNTS[name], official(dataset, folder))}")
    root_argument = shlex.quote(str(root))
    if name == "cifar10":
        config = "configs/wrn_modified_loss.yaml"
        print(f"Next: python -m sgdlit fit --config {config} --data.root {root_argument}")
    else:
        print(f"Next: python -m sgdlit fit with a config for Fashion-MNIST and --data.root {root_argument}")


def _describe(images: "np.ndarray", labels: "np.ndarray") -> str:
    mean, std = channel_statistics(images)
    sizes = [int((labels == c).sum()) for c in range(10)]
    each = f"{sizes[0]}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    shape = "×".join(map(str, images.shape[1:]))
    means, deviations = (" ".join(f"{value:.4f}" for value in values) for values in (mean, std))
    return (
        f"{len(images)} images of {shape}, {sum(s > 0 for s in sizes)} classes ({each} images each), "
        f"channel means {means}, standard deviations {deviations}"
    )


def _verdict(counts: tuple[int, int], expected: tuple[int, int], hashes_match: bool | None) -> str:
    if counts != expected:
        return (
            f"Not the whole dataset: {counts[0]} + {counts[1]} images, "
            f"the official files hold {expected[0]} + {expected[1]}"
        )
    if hashes_match is None:
        return "Official number of images, read without fault (only the archive has an official hash)"
    if hashes_match:
        return "Official files: every hash matches"
    return "Official number of images, read without fault, but the files' hashes are not the official ones"


def channel_statistics(images: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
    """Mean and standard deviation (over all pixels and images) of each channel, pixels scaled to [0, 1].

    Args:
        images: uint8 of shape (N, C, H, W); visited in blocks, so it may be a memory map.

    Returns:
        Two float64 arrays of shape (C,); the sums behind them are exact.
    """
    import numpy as np

    total, squares = (np.zeros(images.shape[1], np.int64) for _ in range(2))
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK].astype(np.int64)
        total += block.sum((0, 2, 3))
        squares += (block**2).sum((0, 2, 3))
    pixels = images.size / images.shape[1]
    mean = total / pixels
    return mean / 255.0, np.sqrt(squares / pixels - mean**2) / 255.0
