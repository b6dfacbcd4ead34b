"""What a measure found at its last step, kept for the next one, in checkpoints too."""

from typing import Any

from torch import Tensor


class Earlier:
    """Tensors that were found of members, each with its step: the last of them, and the one before.

    A measure that is taken twice at one step sees the same earlier tensor both times.
    """

    def __init__(self) -> None:
        self._found: dict[int, list[tuple[int, Tensor]]] = {}  # by member

    def before(self, member: int, step: int) -> tuple[int, Tensor] | None:
        """The last that was found of a member before a step, with its own step; None where there is none."""
        return next((one for one in reversed(self._found.get(member, [])) if one[0] < step), None)

    def keep(self, member: int, step: int, found: Tensor) -> None:
        """Keep what was found of a member at a step, in float32 on the host."""
        own = [one for one in self._found.get(member, []) if one[0] < step][-1:]
        self._found[member] = [*own, (step, found.detach().float().cpu().clone())]

    def state(self, member: int) -> dict[str, Any]:
        """What a checkpoint keeps of a member."""
        own = self._found.get(member, [])
        return {"steps": [step for step, _ in own], "found": [found for _, found in own]}

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Go on from the states of all members."""
        self._found = {
            member: list(zip(state["steps"], state["found"], strict=True))
            for member, state in enumerate(states)
            if state.get("steps")
        }
