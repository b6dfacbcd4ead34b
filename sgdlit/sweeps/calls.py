"""How many runs of equal shape are trained in one call of ``fit``.

A call costs half a second to a second beside its steps: it reads a config, builds networks, opens a folder.
Where the steps of 16 runs take less than some times that, more runs share a call, as many as pay for it.
"""

import json
import math
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from sgdlit.foundations.errors import UserError
from sgdlit.runs.networks import build_network

if TYPE_CHECKING:
    from jsonargparse import Namespace

USUAL = 16
"""Runs in one call, where nothing else is known: so many fill the vector units."""
MOST = 256
_WORTH_A_CALL = 2.0  # seconds of steps, so that the call itself is under a fifth
_STEP, _OPERATION = 1e-5, 5e-11  # seconds of a step of one run, at the least, and for each product in it


def runs_in_a_call(config: "Namespace") -> int:
    """A number from 16 to 256, from the config alone: so all workers agree, whatever is stored.

    What a step costs is guessed from parameters and batch: three products of each parameter and example.
    """
    steps, parameters = _steps(config), _parameters(json.dumps(_network(config), sort_keys=True, default=str))
    if steps is None or parameters is None:
        return USUAL
    batch = config.data.get("init_args", {}).get("batch_size") or 1 if config.get("data") else 1
    seconds = steps * (_STEP + 3 * parameters * batch * _OPERATION)
    return min(MOST, max(USUAL, math.ceil(_WORTH_A_CALL / seconds)))


def _steps(config: "Namespace") -> int | None:
    """How many steps a run has; None where only the data tell."""
    most = config.trainer.max_steps
    given = config.data.get("init_args", {}).get("steps") if config.get("data") else None
    known = [steps for steps in (most, given) if isinstance(steps, int) and steps > 0]
    return min(known) if known else None


def _network(config: "Namespace") -> Any:
    """Class path and arguments of the network; None where the model has none of its own."""
    network = config.model.get("init_args", {}).get("network") if config.get("model") else None
    return network.as_dict() if network is not None and "class_path" in network else None


@cache
def _parameters(network: str) -> int | None:
    """How many a network has that is given as JSON; None where it cannot be built without memory for them."""
    given = json.loads(network)
    if given is None:
        return None
    try:
        with torch.device("meta"):
            return sum(p.numel() for p in build_network(given).parameters())
    except (UserError, RuntimeError, NotImplementedError):  # one that reads its own parameters, say
        return None
