"""Matrix sensing with updates that are put off, in tensor operations, for want of a compiler.

See :mod:`sgdlit.algorithms.engines.stretch`. Products of a whole stretch with the matrices always have as
many rows, zeros where examples are not known yet: so a row's numbers come from the same operations whichever
rows are there. What is left of a step is of vectors; there numpy's operations, on the same memory, take half
the time of torch's, of which nearly all is the call.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sgdlit.algorithms.engines.base import Engine, Losses, Machine
from sgdlit.algorithms.engines.stretch import Stretches
from sgdlit.algorithms.member import Member
from sgdlit.algorithms.rules import rule_of
from sgdlit.data.batches import Batch, Block


class PutOffEngine(Engine):
    """Takes the steps of one run."""

    def __init__(self, members: Sequence[Member], where: slice, machine: Machine) -> None:
        super().__init__(members, where, machine)
        self.rule = rule_of([members[0].optimizer])
        self.stretches: StretchesInTensors | None = None

    def run(self, block: Block) -> Losses:
        member = self.members[0]
        if self.stretches is None:
            size = block.members[self.where.start].batch_size
            parameters, factor = list(member.network.parameters()), member.gradient_factor(size) / size
            self.stretches = StretchesInTensors(parameters, member.optimizer, size, factor)
        given = member.hyperparameters(self.rule, block.start, len(block))
        decays = given["lr"] * given["weight_decay"]
        with torch.no_grad():
            costs = self.stretches.run(block, self.where, self.precision, given["lr"], decays).unsqueeze(1)
        return Losses(costs, costs)


class StretchesInTensors(Stretches):
    """Stretches in tensor operations; its pairs are δ₁ = c u, x₁ = a and δ₂ = b, x₂ = c v.

    There v = W₁a, u = W₂ᵀb and c is the rate times the error, over what weight decay has left.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], optimizer: Optimizer, batch_size: int, factor: float
    ) -> None:
        super().__init__(parameters, optimizer, batch_size, factor)
        (one, two), rows = self.kept, self.steps * batch_size
        self._a, self._b = one["inputs"], two["deltas"]
        self._of_u, self._of_v = two["inputs"], one["deltas"]  # what W₂ᵀb and W₁a lose by the pairs
        self._u, self._v = torch.empty_like(self._of_u), torch.empty_like(self._of_v)
        self._grams = [self._a.new_empty(rows, rows) for _ in range(2)]
        self._errors = self._a.new_empty(rows)
        self._views = [self._of_step(k * batch_size) for k in range(self.steps)]

    def _of_step(self, row: int) -> tuple[np.ndarray, ...]:
        """What a step reads and writes: making a view costs as much as computing with it."""
        own = slice(row, row + self.batch_size)
        gram_a, gram_b = self._grams
        before = (gram_b[own, :row], self._of_u[:row], gram_a[own, :row], self._of_v[:row])
        here = self._u[own], self._v[own], self._errors[own], self._of_u[own], self._of_v[own]
        return tuple(part.numpy() for part in before + here)

    def take(self, step: int, batch: Batch, rates: Tensor, decays: Tensor, costs: Tensor) -> bool:
        if bool((decays == 1).any()):
            return False
        inputs, targets = batch
        each, done = list(zip((rates * self.factor).tolist(), decays.tolist(), strict=True)), 0
        while done < len(each):
            now = min(self.steps - (step + done) % self.steps, len(each) - done)
            part = slice(done, done + now)
            self._take(inputs[part], targets[part], each[part], costs[part])
            done += now
            if (step + done) % self.steps == 0:
                for weight, own in zip(self.weights, self.kept, strict=True):
                    self._fold(weight, own)
                self.held, self.lost = 0, 0.0
        return True

    def _take(self, inputs: Tensor, targets: Tensor, each: list[tuple[float, float]], costs: Tensor) -> None:
        """Steps that end no later than the stretch."""
        first, end = self.held, self.held + len(each) * self.batch_size
        for rows, vectors in zip((self._a, self._b), inputs.flatten(0, 1).unbind(1), strict=True):
            rows[first:end] = vectors
            rows[end:] = 0
        torch.mm(self._a, self.weights[0].T, out=self._v)
        torch.mm(self._b, self.weights[1], out=self._u)
        for rows, gram in zip((self._a, self._b), self._grams, strict=True):
            torch.mm(rows, rows.T, out=gram)
        begun = first // self.batch_size
        views = self._views[begun : begun + len(each)]
        with np.errstate(all="ignore"):  # a run that diverges says so elsewhere
            for of_step, target, (rate, decay) in zip(views, targets.numpy(), each, strict=True):
                self._step(of_step, target, rate, decay)
        self.held = end
        torch.mul(self._errors[first:end].view(len(each), -1).square().mean(1), 0.5, out=costs)

    def _step(self, of_step: tuple[np.ndarray, ...], target: np.ndarray, rate: float, decay: float) -> None:
        along_b, to_u, along_a, to_v, u, v, error, of_u, of_v = of_step
        if len(to_u):
            u -= along_b @ to_u
            v -= along_a @ to_v
        left = 1 - self.lost
        if self.lost:
            u *= left
            v *= left
        np.add.reduce(u * v, 1, out=error)
        error -= target
        scaled = (error * (rate / (left * (1 - decay))))[:, None]
        np.multiply(v, scaled, of_u)
        np.multiply(u, scaled, of_v)
        self.lost += decay * left

    def _fold(self, weight: Tensor, own: dict[str, Tensor]) -> None:
        """W ← D (W − Σ δ xᵀ), as W less what it loses: a small decay counts."""
        pairs = own["deltas"].T
        if self.lost:
            weight.sub_(torch.addmm(weight, pairs, own["inputs"], beta=self.lost, alpha=1 - self.lost))
        else:
            weight.addmm_(pairs, own["inputs"], alpha=-1)

    def enter(self) -> bool:
        begun = [own["start"].clone() for own in self.kept]
        for start, own in zip(begun, self.kept, strict=True):
            self._fold(start, own)
        if not all(map(torch.equal, begun, self.weights)):
            return False
        for weight, own in zip(self.weights, self.kept, strict=True):
            weight.copy_(own["start"])
        return True

    def leave(self) -> None:
        for weight, own in zip(self.weights, self.kept, strict=True):
            own["start"].copy_(weight)
            own["deltas"][self.held :] = 0
            own["inputs"][self.held :] = 0
            self._fold(weight, own)
