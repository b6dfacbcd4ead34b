"""Looking at a network without leaving a trace: modes, statistics and random generators stay what they are.

Gradients are always taken with ``torch.autograd.grad``, which leaves ``.grad`` alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.generators import kept
from sgdlit.foundations.philox import derive_key
from sgdlit.objectives import frozen_statistics

Mode = Literal["eval", "train"]


@contextmanager
def preserved(network: nn.Module) -> Iterator[None]:
    """Inside, a network is in the mode in which it was; what is drawn and BatchNorm's statistics do not
    last."""
    with kept({p.device for p in network.parameters()}), frozen_statistics(network):
        yield


@contextmanager
def undisturbed(network: nn.Module, mode: Mode = "eval", seed: int = 0, step: int = 0) -> Iterator[None]:
    """Inside, a network is in a mode; afterwards it is as before, and so are the random generators.

    Args:
        network: what is looked at.
        mode: ``eval``, or ``train``: BatchNorm takes the statistics of the batch, and Dropout layers stay in
            evaluation mode.
        seed: with ``step`` it decides what other layers draw in mode ``train``.
        step: updates made.
    """
    modes = {module: module.training for module in network.modules()}
    with preserved(network):
        network.train(mode == "train")
        if mode == "train":
            torch.manual_seed(derive_key(seed, f"measures {step}").lo)
            for module in network.modules():
                if isinstance(module, _DropoutNd):
                    module.eval()
        try:
            yield
        finally:
            for module, before in modes.items():
                module.training = before


def refuse_coupled_examples(network: nn.Module) -> None:
    """Refuse a network in which the gradient of one example depends on the others of its batch.

    Raises:
        UserError: BatchNorm that takes the statistics of the batch.
    """
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise UserError(
                f"network.{name}: {type(module).__name__} takes the statistics of the batch here, so that an "
                "example has no gradient of its own; allowed: mode: eval, with running statistics"
            )
