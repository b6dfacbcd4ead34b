"""A trained network, rebuilt from the config of its run and a checkpoint."""

from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from torch import nn

from sgdlit.config.axes import apply, namespace
from sgdlit.config.keys import value_at
from sgdlit.config.options import Option, find_class
from sgdlit.config.parsing import call_nothing_while_parsing
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.generators import kept
from sgdlit.runs.checkpoint_files import network_state

_KEY = "model.network"


def trained_network(
    config: dict[str, Any], point: dict[str, Any], content: dict[str, Any], member: int
) -> nn.Module:
    """The network in eval mode, with the parameters, the buffers and the precision of the checkpoint.

    Args:
        config: of the run.
        point: what distinguishes the member from the config.
        content: of the checkpoint.
        member: number of the run; 0 for one that was trained alone.

    Raises:
        UserError: the config names no network that can be built, or the checkpoint is that of another.
    """
    network = build_network(_network_config(config, point))
    state = network_state(content, member)
    dtype = next((value.dtype for value in state.values() if value.is_floating_point()), None)
    try:
        network.to(dtype=dtype).load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{_KEY}: the checkpoint is that of another network: {error}") from error
    return network.eval()


def _network_config(config: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    """Class path and arguments of the network of one member."""
    given = value_at(config, _KEY)
    own = {key.removeprefix("model."): v for key, v in point.items() if f"{key}.".startswith(f"{_KEY}.")}
    if own:
        given = apply(namespace({"network": given}), own, {"network": Option(nn.Module)}).network.as_dict()
    return given


def build_network(given: Any) -> nn.Module:
    """The network of a class path and its arguments; nothing is called before all of them were looked at."""
    if not isinstance(given, dict) or "class_path" not in given:
        raise UserError(f"{_KEY}: {given!r}; a network can be built from a class path and its arguments only")
    _check_classes(_KEY, given)
    call_nothing_while_parsing()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "network")
    instantiate = getattr(parser, "instantiate", parser.instantiate_classes)  # its name since 4.49
    try:
        with kept([]):  # the random numbers of the caller stay as they are
            return instantiate(parser.parse_object({"network": given})).network
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(f"{_KEY}: {given['class_path']} cannot be built: {error}") from error


def _check_classes(key: str, given: Any) -> None:
    """Refuse a class path, wherever it stands, that names no ``nn.Module``."""
    if isinstance(given, dict) and "class_path" in given:
        cls = find_class(given["class_path"], [nn.Module])
        if cls is None or not issubclass(cls, nn.Module):
            raise UserError(
                f"{key}: {given['class_path']!r} is not allowed; allowed: a subclass of nn.Module"
            )
    inside = given.items() if isinstance(given, dict) else enumerate(given if isinstance(given, list) else ())
    for name, inner in inside:
        _check_classes(f"{key}.{name}", inner)
