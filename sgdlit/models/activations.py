"""The activations that a network can be built with, by name."""

from torch import nn

from sgdlit.foundations.errors import UserError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}

# The square of the gain keeps the second moment from layer to layer (He et al. 2015, eq. 10): 2 where half
# of the inputs are cut off, 1 where none are.
SQUARED_GAINS = {"relu": 2.0, "gelu": 2.0, "tanh": 1.0, "identity": 1.0}


def make_activation(name: str) -> nn.Module:
    """The activation called ``name``.

    Raises:
        UserError: if there is no activation of that name.
    """
    if name not in ACTIVATIONS:
        raise UserError(f"activation: {name!r} is not known; allowed are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()
