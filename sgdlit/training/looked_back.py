"""Parameters that measures look back at: those of the start, and of the last steps before they are taken."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sgdlit.measures.measure import Parameters
from sgdlit.measures.rows import Rows


class LookedBack:
    """Copies of parameters; they are part of a checkpoint.

    Attributes:
        initial: those of the start by member, where a measure needs them.
        steps: those of the last steps, by step and member.
    """

    def __init__(self) -> None:
        self.initial: list[Parameters] = []
        self.steps: dict[int, dict[int, Parameters]] = {}

    def start(self, networks: Sequence[nn.Module]) -> None:
        """Keep the parameters of the start."""
        self.initial = [_copy(network) for network in networks]

    def to(self, device: torch.device) -> None:
        """Have those of the start on a device."""
        self.initial = [Rows.of(each).to(device) for each in self.initial]

    def keep(self, step: int, networks: Mapping[int, nn.Module]) -> None:
        """Keep the parameters of a step, of some members, and forget what lies further back than the last.

        Args:
            step: updates made.
            networks: by member; none where no measure looks back at this step.
        """
        self.steps = {s: kept for s, kept in self.steps.items() if s >= step - 1}
        if networks:
            self.steps[step] = {k: _copy(network) for k, network in networks.items()}

    def before(self, step: int, member: int, device: torch.device) -> list[Parameters]:
        """Those one update before a step, then two updates before, as far as they were kept."""
        found: list[Parameters] = []
        for back in (1, 2):
            kept = self.steps.get(step - back, {}).get(member)
            if kept is None:
                break
            found.append(Rows.of(kept).to(device))
        return found

    def state_dict(self) -> dict[str, Any]:
        return {
            "initial": [dict(each) for each in self.initial],
            "kept": {step: {k: dict(p) for k, p in kept.items()} for step, kept in self.steps.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.initial, self.steps = state["initial"], state["kept"]


def _copy(network: nn.Module) -> Parameters:
    return Rows.of(dict(network.named_parameters()))
