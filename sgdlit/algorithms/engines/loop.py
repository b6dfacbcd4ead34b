"""The plain loop: one run, step by step, with its own network, objective and optimizer, whatever they are."""

from collections.abc import Callable

import torch
from torch import Tensor

from sgdlit.algorithms.engines.base import NO_LOOK, Engine, Look, Losses
from sgdlit.algorithms.network_draws import generators_of, has_a_state
from sgdlit.data.batches import Block, begins_aligned
from sgdlit.objectives.step_shown import Kind, StepGradient


class LoopEngine(Engine):
    """Takes the steps of one run as a PyTorch loop by hand would."""

    draws = True
    _shows: Kind | None = None
    _is_asked = False  # whether anybody has asked what it shows

    def run(self, block: Block) -> Losses:
        return self.run_looking(block, NO_LOOK)

    def run_looking(self, block: Block, look: Look) -> Losses:
        found = []
        for step, batch in enumerate(self.batches(block), block.start):
            found.append(self.step(step, *batch, look.shown if step in look.shown_steps else None))
            if step + 1 in look.steps:
                look.call(step + 1)
        self.members[0].optimizer.zero_grad()  # a run that waits for its turn needs no gradient
        costs, losses = zip(*found, strict=True)
        return Losses(torch.stack(costs).unsqueeze(1), torch.stack(losses).unsqueeze(1))

    def step(
        self,
        step: int,
        inputs: Tensor,
        targets: Tensor,
        shown: Callable[[int, StepGradient], None] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One update; C and the modified loss before it.

        Args:
            step: updates made.
            inputs: ``[1, B, ...]``.
            targets: ``[1, B, ...]``.
            shown: called with ``step`` and the gradient at the parameters before the update.
        """
        member = self.members[0]
        inputs, targets = member.in_memory_format(inputs[0]), targets[0]
        optimizer = member.optimizer
        found: list[tuple[Tensor, Tensor]] = []

        def closure() -> Tensor:
            optimizer.zero_grad()
            before = generators_of(member.network) if shown is not None else None
            evaluation = member.evaluate(inputs, targets, step)
            loss = member.gradient_factor(len(inputs)) * evaluation.loss
            loss.backward()
            if shown is not None and not found:
                drawn = generators_of(member.network) != before
                shown(step, StepGradient(self._gradient(), (inputs, targets), drawn))
            found.append((evaluation.cost, evaluation.loss.detach()))
            return loss

        with self.precision.forward_context(), self.drawing(member, step):
            optimizer.step(closure)  # type: ignore[arg-type]
        if member.scheduler is not None:
            member.scheduler.step()
        return found[0]

    def _gradient(self) -> dict[str, Tensor]:
        trained = ((n, p) for n, p in self.members[0].network.named_parameters() if p.requires_grad)
        return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in trained}

    def shows(self, block: Block) -> Kind | None:
        """The gradient, where it is that of the mean cost: nothing is added to it or done to it, and the
        network computes the same after the step's pass as before."""
        if not self._is_asked:
            member, size = self.members[0], block.members[0].batch_size
            plain = not member.is_penalized and member.transform is None and member.gradient_factor(size) == 1
            inputs, targets = next(self.batches(block.first))
            fit = plain and begins_aligned((inputs, targets)) and not has_a_state(member, inputs[0])
            self._shows = "gradient" if fit else None
            self._is_asked = True
        return self._shows
