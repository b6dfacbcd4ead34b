"""Matrix sensing with updates that are put off: most of a step becomes a share of products of matrices.

A *stretch* is some steps, up to the next step whose number is a multiple of k. Within it W₁ and W₂ stay
what they were at its beginning, and each example since then is a pair of vectors δ, x: a matrix after t
updates is

    W_t = D_t (W − Σ_s δ_s x_sᵀ),   D_t = Π_s (1 − lr · weight decay).

The inputs of a stretch are known before it begins, so that their products with W are products of matrices;
a step then needs k·d operations in place of d². At the end of the stretch the pairs are folded into W, by
one more product of matrices. It is what step by step gives, up to rounding. The arithmetic is in C, see
``sensing_steps`` in ``sgdlit/foundations/native/steps.c``.

**What is computed does not depend on how steps are cut into calls.** A call that ends within a stretch
leaves W_t in the parameters, for whoever looks at them, and W with its pairs and D_t in the optimizer's
state, from which the next call, or a resumed run, goes on: nothing is computed from W_t. Proof that no bit
depends on the cuts:

1. Stretches begin and end at numbers of steps.
2. Within one, every number is a sum over numbers of W and of earlier pairs, by operations that the C code
   fixes for each number by itself, whatever is computed beside it.
3. W, the pairs and D_t are handed on as they are.
4. What is seen after step t is folded from W and the pairs up to t, whether or not calls ended before.

Something else may change the parameters between two calls, such as an exchange between workers. Then they
are not what W and its pairs give, to the bit, and a stretch begins there.
"""

from collections.abc import Sequence
from ctypes import CDLL, byref, c_double, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sgdlit.data.batches import Batch

ROWS = (
    20  # examples of a stretch at most: what their pairs cost grows, what folding costs each of them shrinks
)
_STEPS = (20, 10, 5, 4, 2, 1)  # k: calls end at multiples of ten as a rule, where nothing is left to hand on
_KEPT = "put_off"


def steps_of_stretch(batch_size: int) -> int:
    """k, for steps of so many examples."""
    return next((k for k in _STEPS if k * batch_size <= ROWS), 1)


class Stretches:
    """The steps of one run.

    Args:
        parameters: W₁ ``[h, d]`` and W₂ ``[d, h]``, of a prediction bᵀW₂W₁a.
        optimizer: whose state keeps what an open stretch needs.
        library: the compiled ``steps.c`` of their precision.
        batch_size: B, examples of a step.
        factor: of the gradient of one example in what the optimizer receives.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        optimizer: Optimizer,
        library: CDLL,
        batch_size: int,
        factor: float,
    ) -> None:
        self.parameters, self.optimizer, self.library = parameters, optimizer, library
        self.weights = [p.detach() for p in parameters]
        self.steps = steps_of_stretch(batch_size)
        self.capacity = self.steps * batch_size
        self.batch_size, self.factor = batch_size, factor
        self.deltas = [w.new_empty(self.capacity, w.shape[0]) for w in self.weights]
        self.inputs = [w.new_empty(self.capacity, w.shape[1]) for w in self.weights]
        self.held, self.lost = c_int64(0), c_double(0.0)

    def begin(self, step: int) -> None:
        """Before update number ``step``: go on with an open stretch, or begin one."""
        self.held, self.lost = c_int64(0), c_double(0.0)
        kept = [self.optimizer.state.get(p, {}).pop(_KEPT, None) for p in self.parameters]
        if step % self.steps == 0 or any(own is None for own in kept):
            return
        if all(self._gives(own, w) for own, w in zip(kept, self.weights, strict=True)):
            for own, w, deltas, inputs in zip(kept, self.weights, self.deltas, self.inputs, strict=True):
                w.copy_(own["start"])
                deltas[: len(own["deltas"])] = own["deltas"]
                inputs[: len(own["inputs"])] = own["inputs"]
            self.held, self.lost = c_int64(len(kept[0]["deltas"])), c_double(kept[0]["lost"])

    def _gives(self, kept: dict[str, Any], weight: Tensor) -> bool:
        """Whether a matrix is what was kept of it with its pairs."""
        if len(kept["deltas"]) >= self.capacity:
            return False
        folded = kept["start"].clone()
        self._fold(folded, kept)
        return torch.equal(folded, weight)

    def take(self, step: int, batch: Batch, rates: Tensor, decays: Tensor, costs: Tensor) -> None:
        """Updates from number ``step`` on.

        Args:
            step: the first of them.
            batch: pairs ``[steps, B, 2, d]`` and targets ``[steps, B]``.
            rates: learning rates, float64 ``[steps]``.
            decays: those times the weight decay, float64 ``[steps]``.
            costs: written, ``[steps]``.
        """
        sizes = self.weights[0].shape[1], *(w.shape[0] for w in self.weights)
        self.library.sensing_steps(
            (c_int64 * 3)(*sizes),
            *(
                (c_void_p * 2)(*(t.data_ptr() for t in pair))
                for pair in (self.weights, self.deltas, self.inputs)
            ),
            *(byref(self.held), byref(self.lost), c_int64(self.steps), c_int64(step)),
            *map(pointer, (*batch, rates, decays)),
            *(c_double(self.factor), pointer(costs), c_int64(len(rates)), c_int64(self.batch_size)),
        )

    def end(self) -> None:
        """Leave the matrices as they are by now, and keep what an open stretch needs."""
        held = slice(0, self.held.value)
        if not self.held.value:
            return
        for p, w, deltas, inputs in zip(self.parameters, self.weights, self.deltas, self.inputs, strict=True):
            pairs = {"deltas": deltas[held].clone(), "inputs": inputs[held].clone(), "lost": self.lost.value}
            self.optimizer.state[p][_KEPT] = {"start": w.clone()} | pairs
            self._fold(w, pairs)

    def _fold(self, weight: Tensor, kept: dict[str, Any]) -> None:
        """W ← D (W − Σ δ xᵀ)."""
        sizes = map(c_int64, weight.shape)
        pairs = map(pointer, (kept["deltas"], kept["inputs"]))
        self.library.fold(
            pointer(weight), *sizes, *pairs, c_int64(len(kept["deltas"])), c_double(kept["lost"])
        )


def pointer(tensor: Tensor) -> c_void_p:
    """Where the numbers of a contiguous tensor lie."""
    return c_void_p(tensor.data_ptr())
