"""Parameters by name: groups of them with a rate, a decay of their own, or frozen.

    groups:
      first: {match: layers.0, frozen: true}
      head: {match: "head.*", rate: 10}
      biases: {match: "*.bias", decay: 0}

A pattern is a name, the beginning of one that ends before a dot, or has ``*``, ``?`` and ``[...]`` as file
names do. A parameter belongs to the first group that matches it; those that none matches are trained as they
are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from sgdlit.foundations.errors import UserError, did_you_mean

_SHOWN = 6  # names in a message


@dataclass(frozen=True)
class ParameterGroup:
    """What is different for some parameters.

    Args:
        match: pattern of their names, or several.
        rate: factor of the learning rate.
        decay: their weight decay; None for that of the optimizer.
        frozen: whether they stay as they are, and take no gradient.
    """

    match: str | list[str]
    rate: float = 1.0
    decay: float | None = None
    frozen: bool = False

    @property
    def patterns(self) -> list[str]:
        return [self.match] if isinstance(self.match, str) else list(self.match)


Groups = Mapping[str, ParameterGroup]


def matching(patterns: Sequence[str], names: Sequence[str], key: str) -> list[str]:
    """The names that any of some patterns matches, in their order.

    Args:
        patterns: see the head of this file.
        names: of parameters.
        key: at which the patterns stand in a config.

    Raises:
        UserError: a pattern that matches nothing.
    """
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in names):
            parts = {".".join(name.split(".")[:n]) for name in names for n in range(1, name.count(".") + 2)}
            near = did_you_mean(pattern, sorted(parts)) or ";"
            raise UserError(
                f"{key}: {pattern!r} matches no parameter{near} allowed: names, or patterns of names, of "
                f"{shortened(names)}"
            )
    return [name for name in names if any(_matches(name, pattern) for pattern in patterns)]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def shortened(names: Sequence[str]) -> str:
    """Names for a message, the first few of many."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def assigned(network: nn.Module, groups: Groups) -> dict[str | None, list[str]]:
    """The parameters of a network by group; under None, first, those of none.

    Raises:
        UserError: a pattern or a group without parameters, a group that is frozen and has a rate, a rate or a
            decay below 0, or nothing that is left to be trained.
    """
    names = [name for name, _ in network.named_parameters()]
    found: dict[str | None, list[str]] = {None: []}
    taken: set[str] = set()
    for label, group in groups.items():
        key = f"model.groups.{label}"
        _check(group, key)
        own = [name for name in matching(group.patterns, names, f"{key}.match") if name not in taken]
        if not own:
            raise UserError(
                f"{key}.match: {group.match!r} matches parameters of earlier groups only; allowed: the group "
                "that matches less comes first"
            )
        found[label] = own
        taken.update(own)
    found[None] = [name for name in names if name not in taken]
    frozen = {label for label, group in groups.items() if group.frozen}
    parameters = dict(network.named_parameters())
    left = [
        n for label, own in found.items() if label not in frozen for n in own if parameters[n].requires_grad
    ]
    if not left:
        raise UserError("model.groups: all parameters are frozen; allowed: at least one that is trained")
    return found


def _check(group: ParameterGroup, key: str) -> None:
    for name, value in (("rate", group.rate), ("decay", group.decay)):
        if value is not None and not 0 <= value < float("inf"):
            raise UserError(f"{key}.{name}: {value} is not possible; allowed: 0 or more")
    if group.frozen and (group.rate != 1 or group.decay is not None):
        raise UserError(f"{key}.frozen: true with a rate or a decay, which move parameters; allowed: alone")


def freeze(network: nn.Module, groups: Groups) -> None:
    """Take the gradient from the parameters of frozen groups."""
    parameters = dict(network.named_parameters())
    for label, names in assigned(network, groups).items():
        if label is not None and groups[label].frozen:
            for name in names:
                parameters[name].requires_grad_(False)


def trained(network: nn.Module, groups: Groups) -> list[tuple[ParameterGroup | None, list[str]]]:
    """What an optimizer is given: the parameters of each group that is not frozen, where there are any."""
    found = assigned(network, groups).items()
    each = [(None if label is None else groups[label], names) for label, names in found]
    return [(group, names) for group, names in each if names and not (group is not None and group.frozen)]


def param_groups(network: nn.Module, groups: Groups) -> list[Any]:
    """The argument of an optimizer: its parameters, or its groups of them where there are several."""
    parameters = dict(network.named_parameters())
    each = [[parameters[name] for name in names] for _, names in trained(network, groups)]
    return each[0] if len(each) == 1 else [{"params": own} for own in each]


def set_apart(optimizer: Optimizer, network: nn.Module, groups: Groups) -> None:
    """Give the groups of an optimizer, as :func:`param_groups` made them, what is different in each.

    Raises:
        UserError: the optimizer has no learning rate or no weight decay.
    """
    for group, (own, _) in zip(optimizer.param_groups, trained(network, groups), strict=True):
        if own is None:
            continue
        for setting, value in (("lr", own.rate != 1), ("weight_decay", own.decay is not None)):
            if value and setting not in group:
                raise UserError(
                    f"model.groups: {type(optimizer).__name__} has no {setting}; allowed: groups without "
                    f"{'a rate' if setting == 'lr' else 'a decay'}, or another model.optimizer"
                )
        if own.rate != 1:
            group["lr"] = group["lr"] * own.rate
        if own.decay is not None:
            group["weight_decay"] = own.decay
