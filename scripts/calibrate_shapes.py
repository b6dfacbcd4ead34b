"""Measures how hard the built-in image distribution is: three accuracies and the ranges meant.

1. Softmax regression on 50 000 pictures: at most 45 % of test pictures right. Pixels alone say little.
2. WRN-10-1 on 50 000 pictures: at least 80 %. The task can be learned.
3. WRN-10-1 on 5 000 pictures for long: at least 10 points between training and test accuracy. There is a
   generalization gap to study.

Usage: ``python scripts/calibrate_shapes.py`` (all three: a quarter of an hour on two free CPU cores), or
with the names of some of them: linear, large, small. ``--device cuda`` runs them on a GPU. Exits with 1 if an
accuracy lies outside its range.
"""

import argparse
import sys
import time
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sgdlit.data.finite.shapes import CLASS_NAMES, draw
from sgdlit.foundations.philox import derive_key, permutation
from sgdlit.models import WideResNet

TEST_SIZE = 10_000
EVALUATION_BATCH = 1000


class Recipe(NamedTuple):
    """SGD without augmentation or weight decay; see :func:`lr_factor` for the schedule."""

    train_size: int
    epochs: int
    batch_size: int
    lr: float
    momentum: float


RECIPES = {
    "linear": Recipe(50_000, 10, 128, 0.003, 0.0),
    "large": Recipe(50_000, 5, 32, 0.03, 0.9),
    "small": Recipe(5_000, 20, 32, 0.03, 0.9),
}


def make_model(name: str) -> nn.Module:
    if name == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, len(CLASS_NAMES)))
    return WideResNet(
        depth=10, width=1, num_classes=len(CLASS_NAMES), in_channels=3, normalization="skipinit"
    )


def standardise(images: Tensor, like: Tensor) -> Tensor:
    """uint8 pictures to float32 with mean 0 and variance 1 per channel over the pictures ``like``."""
    reference = like.float()
    std, mean = torch.std_mean(reference, (0, 2, 3), keepdim=True)
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    parts = zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True)
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in parts) / len(labels)


def lr_factor(progress: float) -> float:
    """The lr falls to 30 % after 60 % of the steps and to 10 % after 85 %."""
    return 1.0 if progress < 0.6 else 0.3 if progress < 0.85 else 0.1


def train(name: str, recipe: Recipe, seed: int, device: str) -> tuple[float, float]:
    """Training and test accuracy at the end of a run; one line per epoch on the way."""
    train_raw, train_labels = draw(derive_key(seed, "train"), torch.arange(recipe.train_size, device=device))
    test_raw, test_labels = draw(derive_key(seed, "test"), torch.arange(TEST_SIZE, device=device))
    train_images, test_images = standardise(train_raw, train_raw), standardise(test_raw, train_raw)
    torch.manual_seed(seed)
    model = make_model(name).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum)
    order_key, steps = derive_key(seed, "order"), recipe.train_size // recipe.batch_size
    started = time.monotonic()
    for epoch in range(recipe.epochs):
        order = permutation(order_key, recipe.train_size, substream=epoch, device=device)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = recipe.lr * lr_factor((epoch + step / steps) / recipe.epochs)
            batch = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            loss = cross_entropy(model(train_images[batch]), train_labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        at_test = accuracy(model, test_images, test_labels)
        print(
            f"{name} epoch {epoch + 1}: test accuracy {at_test:.4f}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
    return accuracy(model, train_images, train_labels), at_test


def verdict(name: str, at_train: float, at_test: float) -> bool:
    """Whether the accuracies lie in the range that the distribution promises."""
    if name == "linear":
        return at_test < 0.45
    if name == "large":
        return at_test > 0.80
    return at_train - at_test >= 0.10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if unknown := set(args.names) - set(RECIPES):
        parser.error(f"unknown name {sorted(unknown)[0]!r}; allowed: {', '.join(RECIPES)}")
    passed = []
    for name in args.names or RECIPES:
        at_train, at_test = train(name, RECIPES[name], args.seed, args.device)
        passed.append(verdict(name, at_train, at_test))
        word = "as meant" if passed[-1] else "OUTSIDE ITS RANGE"
        print(f"{name}: {RECIPES[name]}: train {at_train:.4f}, test {at_test:.4f}: {word}")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
