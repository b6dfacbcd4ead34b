"""Matrix sensing with updates that are put off: most of a step becomes a share of products of matrices.

A *stretch* is some steps, up to the next step whose number is a multiple of k. Within it W₁ and W₂ stay
what they were at its beginning, and each example since then is a pair of vectors δ, x: a matrix after t
updates is

    W_t = D_t (W − Σ_s δ_s x_sᵀ),   D_t = Π_s (1 − lr · weight decay).

The inputs of a stretch are known before it begins, so that their products with W are products of matrices;
a step then needs k·d operations in place of d². At the end of the stretch the pairs are folded into W, by
one more product of matrices. It is what step by step gives, up to rounding. The arithmetic is in C
(:mod:`sgdlit.algorithms.engines.fused`, ``sensing_steps`` in ``sgdlit/foundations/native/steps.c``), or in
tensor operations (:mod:`sgdlit.algorithms.engines.put_off`).

**What is computed does not depend on how steps are cut into calls.** A call that ends within a stretch
leaves W_t in the parameters, for whoever looks at them, and W with its pairs and D_t in the optimizer's
state, from which the next call, or a resumed run, goes on: nothing is computed from W_t. Proof that no bit
depends on the cuts:

1. Stretches begin and end at numbers of steps.
2. Within one, every number is a sum over numbers of W and of earlier pairs, by operations that are fixed for
   each number by itself, whatever is computed beside it.
3. W, the pairs and D_t are handed on as they are.
4. What is seen after step t is folded from W and the pairs up to t, whether or not calls ended before.

Something else may change the parameters between two calls, such as an exchange between workers. Then they
are not what W and its pairs give, to the bit, and a stretch begins there.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sgdlit.algorithms.engines.base import Precision
from sgdlit.data.batches import Batch, Block
from sgdlit.foundations.errors import UserError

ROWS = 20  # examples of a stretch at most: more cost more to carry along, fewer more to fold, each of them
_STEPS = (20, 10, 5, 4, 2, 1)  # k: calls end at multiples of ten as a rule, where nothing is left to hand on
_KEPT = "put_off"


def steps_of_stretch(batch_size: int) -> int:
    """k, for steps of so many examples."""
    return next((k for k in _STEPS if k * batch_size <= ROWS), 1)


class Stretches(ABC):
    """The steps of one run; how they are computed is left to those that derive from it.

    Args:
        parameters: W₁ ``[h, d]`` and W₂ ``[d, h]``, of a prediction bᵀW₂W₁a.
        optimizer: whose state keeps what an open stretch needs.
        batch_size: B, examples of a step.
        factor: of the gradient of one example in what the optimizer receives.

    Attributes:
        weights: the numbers of W₁ and W₂.
        steps: k.
        held: examples of the open stretch so far.
        lost: 1 − D_t.
        kept: of each matrix ``start``, W as the open stretch began, and ``deltas`` and ``inputs``, the δ and
            x of its examples, a row each; zeros beyond those that are held, once a call has ended.
    """

    held: int
    lost: float

    def __init__(
        self, parameters: Sequence[nn.Parameter], optimizer: Optimizer, batch_size: int, factor: float
    ) -> None:
        self.parameters, self.optimizer = parameters, optimizer
        self.steps, self.batch_size, self.factor = steps_of_stretch(batch_size), batch_size, factor
        self.weights = [p.detach() for p in parameters]
        rows = self.steps * batch_size
        self.kept = [
            {
                "start": torch.empty_like(w),
                "deltas": w.new_empty(rows, w.shape[0]),
                "inputs": w.new_empty(rows, w.shape[1]),
            }
            for w in self.weights
        ]

    def run(self, block: Block, where: slice, precision: Precision, rates: Tensor, decays: Tensor) -> Tensor:
        """The steps of a block: C of each before its update, ``[steps]``.

        Args:
            block: the steps.
            where: which of its members the run is.
            precision: in which batches are converted.
            rates: learning rates, float64 ``[steps]``.
            decays: those times the weight decay, float64 ``[steps]``.

        Raises:
            UserError: one of the decays is 1.
        """
        costs, done = self.weights[0].new_empty(len(block)), 0
        self._begin(block.start)
        for piece in block.pieces(where.start):
            inputs, targets = (t.contiguous() for t in precision.convert_input(piece))
            part = slice(done, done + len(inputs))
            given = rates[part], decays[part], costs[part]
            if not self.take(block.start + done, (inputs, targets), *given):
                raise UserError(
                    "model.optimizer: learning rate times weight decay is 1, so that no weight is left; "
                    "allowed: another weight_decay, or model.engine: loop"
                )
            done = part.stop
        if self.held:
            self.leave()
            for p, own in zip(self.parameters, self.kept, strict=True):
                self.optimizer.state[p][_KEPT] = own | {"held": self.held, "lost": self.lost}
        return costs

    def _begin(self, step: int) -> None:
        """Before update number ``step``: go on with an open stretch, or begin one."""
        states = self.optimizer.state
        self.held, self.lost = 0, 0.0
        found = [states[p].pop(_KEPT) for p in self.parameters if _KEPT in states.get(p, {})]
        if step % self.steps == 0 or len(found) < len(self.parameters):
            return
        for own, ours in zip(found, self.kept, strict=True):
            for name, tensor in ours.items():
                if own[name] is not tensor:  # from a checkpoint, maybe of a version that kept held rows alone
                    tensor[: len(own[name])].copy_(own[name])
        self.held, self.lost = found[0].get("held", len(found[0]["deltas"])), found[0]["lost"]
        if not self.enter():
            self.held, self.lost = 0, 0.0

    @abstractmethod
    def enter(self) -> bool:
        """Go back to the stretch's beginning.

        Returns:
            False, and nothing is done, where the matrices are not, to the bit, what was left.
        """

    @abstractmethod
    def take(self, step: int, batch: Batch, rates: Tensor, decays: Tensor, costs: Tensor) -> bool:
        """Updates from number ``step`` on.

        Args:
            step: the first of them.
            batch: pairs ``[steps, B, 2, d]`` and targets ``[steps, B]``.
            rates: learning rates, float64 ``[steps]``.
            decays: those times the weight decay, float64 ``[steps]``.
            costs: written, ``[steps]``.

        Returns:
            False, and nothing is done, where a decay is 1, after which D_t is 0 and has no inverse.
        """

    @abstractmethod
    def leave(self) -> None:
        """Leave the matrices as they are by now, and keep what they were at the stretch's beginning."""
