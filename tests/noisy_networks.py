"""A network that draws."""

from torch import nn


class Dropping(nn.Sequential):
    """784-16-10 with dropout."""

    def __init__(self) -> None:
        layers = nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 10)
        super().__init__(*layers)
