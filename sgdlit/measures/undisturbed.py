"""Looking at a network without leaving a trace: modes, buffers and random generators stay what they are.

Gradients are always taken with ``torch.autograd.grad``, which leaves ``.grad`` alone.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.generators import kept, seed_network
from sgdlit.foundations.philox import derive_key
from sgdlit.objectives import frozen_statistics

Mode = Literal["eval", "train"]
HALF = (torch.float16, torch.bfloat16)


@contextmanager
def preserved(network: nn.Module) -> Iterator[nn.Module]:
    """Inside, a network to look at, in the mode in which the given one is; the given one stays what it is.

    It is the same, or a float32 copy of one with parameters in half precision. Autocast is off. What is drawn
    inside, what BatchNorm sees and what a pass writes into buffers does not last.
    """
    kind = next((p.device.type for p in network.parameters()), "cpu")
    with (
        kept({p.device for p in network.parameters()}),
        torch.autocast(kind, enabled=False),
        frozen_statistics(network),
        copied_buffers(network),
    ):
        yield in_single_precision(network)


@contextmanager
def copied_buffers(network: nn.Module) -> Iterator[None]:
    """Inside, a network has copies of its buffers; those that it had come back afterwards."""
    held = [(module, name) for module in network.modules() for name in module._buffers]
    before = [module._buffers[name] for module, name in held]
    copies = {id(b): b.clone() for b in before if b is not None}
    for (module, name), buffer in zip(held, before, strict=True):
        module._buffers[name] = None if buffer is None else copies[id(buffer)]
    try:
        yield
    finally:
        for (module, name), buffer in zip(held, before, strict=True):
            module._buffers[name] = buffer


@contextmanager
def moved(network: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, some parameters and buffers have other values, by name; those that they had come back."""
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    before = {name: tensors[name].data for name in values}
    try:
        for name, value in values.items():
            tensors[name].data = value.to(before[name])
        yield
    finally:
        for name, value in before.items():
            tensors[name].data = value


def outputs_of(network: nn.Module, inputs: Tensor) -> Any:
    """network(inputs), of inputs and buffers as they are: a pass that writes into them writes into copies.

    Inputs in half precision are taken in that of the network.

    Raises:
        UserError: inputs that are no tensor.
    """
    require_tensor(inputs)
    wanted = next((p.dtype for p in network.parameters() if p.is_floating_point()), inputs.dtype)
    with copied_buffers(network):
        return network(inputs.to(wanted) if inputs.dtype in HALF and wanted not in HALF else inputs.clone())


def in_single_precision(network: nn.Module) -> nn.Module:
    """The network, or a float32 copy of one with parameters in half precision."""
    if any(p.dtype in HALF for p in network.parameters()):
        return copy.deepcopy(network).float()
    return network


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
            device = next((p.device for p in network.parameters()), torch.device("cpu"))
            seed_network(derive_key(seed, f"measures {step}").lo, device)
            for module in network.modules():
                if isinstance(module, _DropoutNd):
                    module.eval()
        try:
            yield
        finally:
            for module, before in modes.items():
                module.training = before


# What cannot be looked at


def require_tensor(inputs: object) -> None:
    """Refuse inputs of a network that are no tensor.

    Raises:
        UserError: naming what they are.
    """
    if not isinstance(inputs, Tensor):
        raise UserError(f"batches: inputs are a {type(inputs).__name__}; allowed: one tensor [b, ...]")


def is_finite(network: nn.Module) -> bool:
    """Whether all parameters are finite numbers."""
    return all(_all_finite(p.detach()) for p in network.parameters())


def _all_finite(values: Tensor) -> bool:
    """A sum passes on what is NaN or infinite, and takes less time than a look at each number."""
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def refuse_not_finite(network: nn.Module) -> None:
    """Refuse a network that has diverged.

    Raises:
        UserError: a parameter is NaN or infinite.
    """
    for name, p in network.named_parameters():
        if not _all_finite(p.detach()):
            wrong = p.numel() - int(p.detach().isfinite().sum())
            raise UserError(
                f"network.{name}: {wrong} of {p.numel()} numbers are NaN or infinite, so that nothing can be "
                "measured; allowed: a network that has not diverged"
            )


def has_batchnorm(network: nn.Module) -> bool:
    """Whether a layer of the network is BatchNorm."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def refuse_coupled_examples(
    network: nn.Module, so_that: str = "an example has no gradient of its own", owner: str = ""
) -> None:
    """Refuse a network in which the gradient of one example depends on the others of its batch.

    Args:
        network: in the mode in which it is.
        so_that: what follows.
        owner: what the error begins with.

    Raises:
        UserError: BatchNorm that takes the statistics of the batch.
    """
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise UserError(
                f"{owner}network.{name}: {type(module).__name__} takes the statistics of the batch here, so "
                f"that {so_that}; allowed: mode: eval, with running statistics"
            )
