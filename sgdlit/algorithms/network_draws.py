"""What a network itself draws at a step, as dropout does: a function of the run's seed and of the step.

So a run that was stopped and resumed draws what it would have drawn, a member draws what it draws alone, and
neither logging nor measures change it. What draws from numpy's generator is not seen to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sgdlit.algorithms.member import Member
from sgdlit.foundations.generators import kept, snapshot
from sgdlit.foundations.philox import derive_key
from sgdlit.objectives import frozen_statistics


@contextmanager
def draws_of_step(member: Member, step: int, part: str = "") -> Iterator[None]:
    """Inside, the network draws what belongs to an update, or to an evaluation after it.

    Args:
        member: the run, whose seed decides.
        step: updates made before.
        part: what draws for itself at this step: a rank, a micro-batch, a batch of an evaluation.
    """
    with kept(_devices(member.network), derive_key(member.seed, f"network {step} {part}").lo):
        yield


def draws(member: Member, inputs: Tensor) -> bool:
    """Whether the network draws when it is trained, seen from one call of it.

    Args:
        member: the run.
        inputs: of a batch, ``[B, ...]``.
    """
    devices = _devices(member.network)
    with kept(devices), frozen_statistics(member.network), torch.enable_grad():
        before = snapshot(devices)
        member.outputs(inputs)
        return snapshot(devices) != before


def has_a_state(member: Member, inputs: Tensor) -> bool:
    """Whether a call of the network in training draws, or changes a buffer, as BatchNorm does: the next call
    finds another function then.

    Args:
        member: the run.
        inputs: of a batch, ``[B, ...]``.
    """
    held = [(module, dict(module._buffers)) for module in member.network.modules()]
    copies = [{name: b.clone() for name, b in own.items() if b is not None} for _, own in held]
    with kept(_devices(member.network)), torch.enable_grad():
        before = generators_of(member.network)
        member.outputs(inputs)
        changed = generators_of(member.network) != before
    for (module, own), values in zip(held, copies, strict=True):
        for name, buffer in ((name, b) for name, b in own.items() if b is not None):
            changed |= module._buffers[name] is not buffer or not torch.equal(buffer, values[name])
            buffer.copy_(values[name])
        module._buffers.update(own)
    return changed


def generators_of(network: nn.Module) -> tuple[Any, ...]:
    """What the generators are like that a network may draw from: equal as long as it draws nothing."""
    return snapshot(_devices(network))


class ImpureForward(Exception):
    """A network's forward draws, or changes attributes of its modules."""


@contextmanager
def refuse_impure_forward(network: nn.Module) -> Iterator[None]:
    """A call of the network inside leaves no trace, and is refused where it would.

    Raises:
        ImpureForward: it draws from a generator of torch, Python or numpy, or changes a plain attribute of a
            module.
    """
    devices = _devices(network)
    attributes = [(module, _plain(module)) for module in network.modules()]
    with kept(devices):
        before = snapshot(devices)
        yield
        drawn = snapshot(devices) != before
    changed = [(module, was) for module, was in attributes if _plain(module) != was]
    for module, was in changed:
        vars(module).update(was)
    if drawn:
        raise ImpureForward("its forward draws random numbers")
    if changed:
        raise ImpureForward(f"its forward changes attributes of {type(changed[0][0]).__name__}")


def _plain(module: nn.Module) -> dict[str, object]:
    return {
        name: value for name, value in vars(module).items() if isinstance(value, bool | int | float | str)
    }


def _devices(network: nn.Module) -> set[torch.device]:
    return {parameter.device for parameter in network.parameters()}
