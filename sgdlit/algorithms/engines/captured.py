"""A recorded step as a CUDA graph: one launch for all of its operations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from sgdlit.foundations.console import say

_WARM_UP = 3  # calls before capturing, in which libraries choose their kernels and set up their memory


class CapturedStep:
    """Calls a step by replaying a CUDA graph, which :meth:`prepare`, or else the first call, captures.

    Parameters, buffers and state are used where they lie; batch and numbers are copied to where the graph
    reads them. Where nothing can be captured, the step is called as it is, and the reason is said once. A
    memory that is too small for the graph is such a reason in the middle of a run only: whoever prepares the
    step hears of it.

    Args:
        step: see ``stacked.Step``; all its tensors are on a CUDA device.
    """

    def __init__(self, step: Callable[..., tuple[Tensor, Tensor]]) -> None:
        self.step = step
        self.graph: Any = None
        self.refused = False

    def __call__(
        self,
        parameters: list[Tensor],
        rest: dict[str, Tensor],
        state: dict[str, list[Tensor]],
        *changing: Tensor,
    ) -> tuple[Tensor, ...]:
        kept = (parameters, rest, state)
        if self.graph is None and not self.refused:
            try:
                self.prepare(*kept, *changing)
            except torch.OutOfMemoryError as error:
                self._refuse(error)
        if self.refused:
            return self.step(*kept, *changing)
        for place, tensor in zip(self.inputs, changing, strict=True):
            place.copy_(tensor)
        self.graph.replay()
        return tuple(output.clone() for output in self.outputs)

    def prepare(
        self,
        parameters: list[Tensor],
        rest: dict[str, Tensor],
        state: dict[str, list[Tensor]],
        *changing: Tensor,
    ) -> None:
        """Capture the step, of which nothing is executed.

        Raises:
            torch.OutOfMemoryError: the memory does not hold what the graph needs.
        """
        try:
            self._capture((parameters, rest, state), changing)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AttributeError) as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        self.refused = True
        why = str(error).split("\n")[0]
        say(f"no CUDA graph for the training step, which goes on without one: {why}")

    def _capture(self, kept: tuple, changing: tuple[Tensor, ...]) -> None:
        """Capture the step; the warm-up works on copies, and capturing executes nothing."""
        graph = torch.cuda.CUDAGraph()
        self.inputs = [tensor.clone() for tensor in changing]
        copies = tree_map_only(Tensor, torch.clone, kept)
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                self.step(*copies, *self.inputs)
        torch.cuda.current_stream().wait_stream(beside)
        del copies
        with torch.cuda.graph(graph):
            self.outputs = self.step(*kept, *self.inputs)
        self.graph = graph
