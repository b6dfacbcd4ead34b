"""A run that starts from the weights of another: ``--init_from logs/NAME/version_K``.

Parameters and buffers go by name. What does not fit is refused, unless ``--init_fresh`` names it: then it
stays as it was initialised, such as a head for other classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgdlit.algorithms.parameter_groups import matching, shortened
from sgdlit.foundations.errors import UserError
from sgdlit.runs.checkpoint_files import load_checkpoint, network_state
from sgdlit.runs.reading import load_run


def start_from(
    networks: Sequence[nn.Module], place: str, fresh: Sequence[str] = (), member: int | None = None
) -> str:
    """Give networks the weights of a run; what was done, in words.

    Args:
        networks: of one run, or of the members of an ensemble.
        place: the folder of a run, whose best checkpoint counts, or else its last; or a checkpoint file.
        fresh: patterns of names that stay as they are.
        member: whose weights all networks take, where the place is that of an ensemble; None gives member k
            the weights of member k.

    Raises:
        UserError: there is no such run or member, or something does not fit and is not in ``fresh``.
    """
    content = _content(place)
    step, states = int(content["global_step"]), _states(content, place)
    for k, network in enumerate(networks):
        left = _give(network, states[_source(k, len(networks), len(states), member, place)], place, fresh)
    whose = f" of member {member}" if member is not None else ""
    besides = f"; fresh: {shortened(left)}" if left else ""
    return f"weights{whose} from {place} (step {step}){besides}"


def _content(place: str) -> dict[str, Any]:
    if Path(place).is_file():
        return load_checkpoint(Path(place), key="init_from")
    try:
        return load_run(place).checkpoint()
    except UserError as error:
        words = str(error).removeprefix("ckpt_path: ")
        allowed = "" if "allowed:" in words else "; allowed: the folder of a run, or a checkpoint file"
        raise UserError(f"init_from: {words}{allowed}") from error


def _states(content: dict[str, Any], place: str) -> list[dict[str, Tensor]]:
    """The weights of each member's network."""
    parts = (name.split(".") for name in content["state_dict"])
    numbers = {int(part[1]) for part in parts if part[0] == "networks" and part[1].isdigit()}
    if not numbers:
        raise UserError(
            f"init_from: {place!r} is a run of another module than sgdlit.training.module.Training; allowed: "
            "runs of that"
        )
    return [network_state(content, k) for k in sorted(numbers)]


def _source(k: int, here: int, there: int, member: int | None, place: str) -> int:
    """The member of the other run from which member k starts."""
    if member is not None:
        if not 0 <= member < there:
            raise UserError(f"init_member: {member} does not exist in {place}; allowed: 0 to {there - 1}")
        return member
    if there not in (1, here):
        raise UserError(
            f"init_from: {place!r} is an ensemble of {there}; allowed with init_member: 0 to {there - 1}, or "
            f"for an ensemble of as many members, not {here}"
        )
    return k if there > 1 else 0


def _give(network: nn.Module, state: dict[str, Tensor], place: str, fresh: Sequence[str]) -> list[str]:
    """Copy what fits into a network; the names that were left fresh."""
    own = network.state_dict()
    names = list(dict.fromkeys([*own, *state]))
    left = set(matching(fresh, names, "init_fresh")) if fresh else set()
    wrong = [name for name in names if name not in left and _shape(own, name) != _shape(state, name)]
    if wrong:
        shapes = "; ".join(f"{n}: {_shape(state, n)} there, {_shape(own, n)} here" for n in wrong[:3])
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        heads = sorted({name.rpartition(".")[0] or name for name in wrong})
        raise UserError(
            f"init_from: {place!r} does not fit this network in {len(wrong)} parameters: {shapes}{more}; "
            f"allowed: to leave them fresh, with --init_fresh {_as_option(heads)}"
        )
    with torch.no_grad():
        for name in names:
            if name not in left:
                own[name].copy_(state[name])
    return [name for name in own if name in left]


def _shape(state: dict[str, Tensor], name: str) -> str:
    return str(tuple(state[name].shape)) if name in state else "none"


def _as_option(heads: Sequence[str]) -> str:
    return heads[0] if len(heads) == 1 else "'[" + ", ".join(heads) + "]'"
