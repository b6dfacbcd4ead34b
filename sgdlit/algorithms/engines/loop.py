"""The plain loop: one run, step by step, with its own network, objective and optimizer, whatever they are."""

import torch
from torch import Tensor

from sgdlit.algorithms.engines.base import Engine, Losses
from sgdlit.data.batches import Block


class LoopEngine(Engine):
    """Takes the steps of one run as a PyTorch loop by hand would."""

    draws = True

    def run(self, block: Block) -> Losses:
        steps = enumerate(self.batches(block), block.start)
        costs, losses = zip(*(self.step(step, *batch) for step, batch in steps), strict=True)
        self.members[0].optimizer.zero_grad()  # a run that waits for its turn needs no gradient
        return Losses(torch.stack(costs).unsqueeze(1), torch.stack(losses).unsqueeze(1))

    def step(self, step: int, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """One update; C and the modified loss before it."""
        member = self.members[0]
        inputs, targets = member.in_memory_format(inputs[0]), targets[0]
        optimizer = member.optimizer
        found = []

        def closure() -> Tensor:
            optimizer.zero_grad()
            evaluation = member.evaluate(inputs, targets, step)
            loss = member.gradient_factor(len(inputs)) * evaluation.loss
            loss.backward()
            found.append((evaluation.cost, evaluation.loss.detach()))
            return loss

        with self.precision.forward_context(), self.drawing(member, step):
            optimizer.step(closure)  # type: ignore[arg-type]
        if member.scheduler is not None:
            member.scheduler.step()
        return found[0]
