"""The subcommand ``data``: fetches a finite set of images, reads what is there, and says what it is.

Its help imports neither torch nor numpy.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sgdlit.cli.parser import CommandParser
from sgdlit.data import finite

if TYPE_CHECKING:
    import numpy as np

    from sgdlit.data.official_files import OfficialFiles

_BLOCK = 1_000


def main(arguments: Sequence[str]) -> int:
    """Runs ``data NAME --root DIR [--base_url URL]``.

    Returns:
        The exit code: 0, or 130 where Ctrl-C stopped a download.

    Raises:
        UserError: a mistake in the arguments, the download failed, or a file is damaged.
    """
    args = _parser().parse(arguments)
    from sgdlit.data.image_shards import ImagesFromFiles

    cls, root = finite.load(args.name), Path(args.root).expanduser()
    if not issubclass(cls, ImagesFromFiles):
        print(f"{cls.__name__}: made when a run asks for it, nothing to fetch")
        return 0
    return _fetch_and_report(cls.files, root, args.base_url)


def _parser() -> CommandParser:
    parser = CommandParser(
        "data",
        "Download a dataset (verified by hash), read it, and say what is there. Files that are already there "
        "are kept.",
    )
    sets = " ".join(f"{name}: {finite.description(name)}" for name in finite.names())
    parser.add_argument("name", type=Literal[tuple(finite.names())], metavar="NAME", help=sets)
    parser.add_argument(
        "--root", type=str, required=True, metavar="DIR", help="folder that holds or receives the files"
    )
    parser.add_argument(
        "--base_url", type=str, metavar="URL", help="another server's folder with the same files"
    )
    return parser


def _fetch_and_report(files: "OfficialFiles", root: Path, base_url: str | None) -> int:
    from sgdlit.data.download import fetch

    try:
        folder, fetched = fetch(files, root, base_url)
    except KeyboardInterrupt:
        print("\nStopped. Files that had arrived whole are kept.", file=sys.stderr)
        return 130
    if fetched:
        print(f"{files.title}: fetched {', '.join(fetched)}")
    else:
        print(f"{files.title}: all files are already there, nothing fetched")
    _report(files, root, folder)
    return 0


def _report(files: "OfficialFiles", root: Path, folder: Path) -> None:
    """Reads both splits and prints what they are."""
    from sgdlit.data.download import official

    splits = {split: files.read(root, train=split == "train") for split in ("train", "test")}
    print(f"In {folder.resolve()}:")
    for split, (images, labels) in splits.items():
        print(f"  {split:<5}  {_describe(images, labels, files.format.classes)}")
    counts = len(splits["train"][1]), len(splits["test"][1])
    print(f"  {_verdict(counts, files.counts, official(files, folder))}")
    config = f"--config {files.config}" if files.config else f"with a config for {files.title}, and"
    print(f"Next: python -m sgdlit fit {config} --data.root {shlex.quote(str(root))}")


def _describe(images: "np.ndarray", labels: "np.ndarray", classes: int) -> str:
    mean, std = channel_statistics(images)
    sizes = [int((labels == c).sum()) for c in range(classes)]
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
