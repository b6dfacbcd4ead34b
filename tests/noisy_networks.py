"""Networks that draw, each from another generator, and one whose way depends on what it sees."""

import random

import numpy as np
import torch
from torch import Tensor, nn


class Dropping(nn.Sequential):
    """784-16-10 with dropout."""

    def __init__(self) -> None:
        layers = nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 10)
        super().__init__(*layers)


class Coin(nn.Module):
    """Draws from Python's generator whether a layer is used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(784, 16), nn.Linear(16, 16)
        self.last = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x.flatten(1)))
        if self.used(hidden):
            hidden = hidden + torch.relu(self.second(hidden))
        return self.last(hidden)

    def used(self, hidden: Tensor) -> bool:
        return random.random() > 0.6


class NumpysCoin(Coin):
    """Draws that from numpy's generator."""

    def used(self, hidden: Tensor) -> bool:
        return float(np.random.random()) > 0.6


class Branching(Coin):
    """Uses the layer where the first example excites more than the last."""

    def used(self, hidden: Tensor) -> bool:
        return bool(hidden[0].sum() > hidden[-1].sum())
