"""Small networks with fixed minibatches on which the modified flow is measured.

Smooth activations only: the expansion behind Eqs 1–39 needs derivatives that a ReLU does not have.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key, normal, permutation
from sgdlit.theory.losses import FlatLoss, flat_losses

_HIDDEN_REGRESSION, _HIDDEN_IMAGES = 6, 8


@dataclass(frozen=True)
class Problem:
    """Minibatch losses, the losses of the single examples, and where to start."""

    name: str
    minibatches: list[FlatLoss]
    examples: list[FlatLoss]
    start: Tensor


def random_regression(m: int, batch_size: int, inputs: int, scale: float, seed: int) -> Problem:
    """A tanh network ``inputs``–6–1 with squared error on standard normal data, in m minibatches."""
    count = torch.arange(_checked(m) * batch_size)
    x = normal(derive_key(seed, "theory/inputs"), count, inputs, dtype=torch.float64)
    y = normal(derive_key(seed, "theory/targets"), count, 1, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(inputs, _HIDDEN_REGRESSION), nn.Tanh(), nn.Linear(_HIDDEN_REGRESSION, 1))
    return _problem("tanh network, normal data", model, nn.functional.mse_loss, x, y, m, scale, seed)


def fashion_mnist(folder: Path, m: int, batch_size: int, scale: float, seed: int) -> Problem:
    """A tanh network 784–8–10 with cross-entropy on m·batch_size random training images of Fashion-MNIST.

    Pixels are centred and divided by 28 times their standard deviation, so that an input has norm about 1.
    """
    from sgdlit.data.finite.fashion_mnist import FashionMNIST

    images, labels = FashionMNIST.files.read(folder, train=True)
    rows = permutation(derive_key(seed, "theory/images"), len(images))[: _checked(m) * batch_size].numpy()
    x = torch.from_numpy(images[rows].reshape(len(rows), -1).astype("float64"))
    x = (x - x.mean()) / (x.std() * x.shape[1] ** 0.5)
    y = torch.from_numpy(labels[rows].astype("int64"))
    model = nn.Sequential(nn.Linear(x.shape[1], _HIDDEN_IMAGES), nn.Tanh(), nn.Linear(_HIDDEN_IMAGES, 10))
    return _problem("tanh network, Fashion-MNIST", model, nn.functional.cross_entropy, x, y, m, scale, seed)


def _problem(
    name: str, model: nn.Sequential, loss_fn, x: Tensor, y: Tensor, m: int, scale: float, seed: int
) -> Problem:
    """Weights ~ N(0, scale²/fan-in), biases ~ N(0, scale²): nothing starts at a symmetric point."""
    model = model.double()
    drawn = normal(derive_key(seed, "theory/start"), torch.arange(1), _size(model), dtype=torch.float64)[0]
    widths = torch.cat(
        [torch.full((p.numel(),), float(p.shape[1] if p.ndim == 2 else 1)) for p in model.parameters()]
    )
    pairs = list(zip(x.chunk(m), y.chunk(m), strict=True))
    singles = list(zip(x.split(1), y.split(1), strict=True))
    return Problem(
        name,
        flat_losses(model, loss_fn, pairs),
        flat_losses(model, loss_fn, singles),
        scale * drawn / widths.sqrt(),
    )


def _size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _checked(m: int) -> int:
    if m < 2:
        raise UserError(f"m = {m}: with fewer than two minibatches there is no order to average over")
    return m
