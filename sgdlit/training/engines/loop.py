"""The plain loop: one run, step by step, with its own network, objective and optimizer, whatever they are."""

import torch
from torch import Tensor

from sgdlit.data.loaders import Block
from sgdlit.training.engines.base import Engine, Losses


class LoopEngine(Engine):
    """Takes the steps of one run as a PyTorch loop by hand would."""

    def run(self, block: Block) -> Losses:
        costs, losses = zip(*(self.step(block, k) for k in range(len(block))), strict=True)
        self.members[0].optimizer.zero_grad()  # a run that waits for its turn needs no gradient
        return Losses(torch.stack(costs).unsqueeze(1), torch.stack(losses).unsqueeze(1))

    def step(self, block: Block, k: int) -> tuple[Tensor, Tensor]:
        """One update; C and the modified loss before it."""
        (run, optimizer, scheduler), (inputs, targets) = self.members[0], self.batch(block, k)
        inputs, targets = run.in_memory_format(inputs[0]), targets[0]
        strength = run.strength(block.start + k, self.members[0].rate())
        found = []

        def closure() -> Tensor:
            optimizer.zero_grad()
            evaluation = run.objective(run.network, run.loss, inputs, targets, strength)
            loss = run.factor(len(inputs)) * evaluation.loss
            loss.backward()
            found.append((evaluation.cost, evaluation.loss.detach()))
            return loss

        with self.precision.forward_context():
            optimizer.step(closure)
        if scheduler is not None:
            scheduler.step()
        return found[0]
