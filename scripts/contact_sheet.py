"""Draws the contact sheet of the built-in image distribution.

Usage: ``python scripts/contact_sheet.py docs/shapes.png``
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from sgdlit.data.finite.shapes import CLASS_NAMES, draw
from sgdlit.foundations.philox import derive_key


def first_of_each_class(seed: int, count: int) -> Tensor:
    """The first ``count`` pictures of every class: uint8 [classes, count, 3, 32, 32]."""
    images, labels = draw(derive_key(seed, "contact sheet"), torch.arange(30 * count * len(CLASS_NAMES)))
    return torch.stack([images[labels == label][:count] for label in range(len(CLASS_NAMES))])


def contact_sheet(path: Path, seed: int = 0, count: int = 10) -> None:
    """Writes a picture with one named row per class and ``count`` samples in each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 + 0.62 * count, 0.64 * len(CLASS_NAMES)))
    axes = figure.subplots(len(CLASS_NAMES), count)
    for row, name, samples in zip(axes, CLASS_NAMES, first_of_each_class(seed, count), strict=True):
        for ax, image in zip(row, samples, strict=True):
            ax.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            ax.set_axis_off()
        row[0].text(-0.15, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=10)
    left = 1.5 / figure.get_figwidth()
    figure.subplots_adjust(left=left, right=0.995, bottom=0.005, top=0.995, wspace=0.06, hspace=0.06)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="where to write the PNG")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    contact_sheet(args.path, args.seed)
    print(f"written: {args.path}")
