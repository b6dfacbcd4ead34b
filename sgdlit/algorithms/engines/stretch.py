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
from ctypes import CDLL, Structure, byref, c_double, c_int64, c_void_p

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sgdlit.data.batches import Batch
from sgdlit.foundations.errors import UserError

ROWS = 20  # examples of a stretch at most: more cost more to carry along, fewer more to fold, each of them
_STEPS = (20, 10, 5, 4, 2, 1)  # k: calls end at multiples of ten as a rule, where nothing is left to hand on
_KEPT = "put_off"


def steps_of_stretch(batch_size: int) -> int:
    """k, for steps of so many examples."""
    return next((k for k in _STEPS if k * batch_size <= ROWS), 1)


class _Run(Structure):
    """What the C code knows of a run, see ``Run`` there."""

    _fields_ = (
        ("sizes", c_int64 * 3),
        *((name, c_int64) for name in ("stretch", "batch", "rows")),
        *((name, c_void_p * 2) for name in ("w", "start", "delta", "x")),
        ("scratch", c_void_p),
        *((name, c_double) for name in ("factor", "lost")),
        ("held", c_int64),
    )


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
        self.steps = steps_of_stretch(batch_size)
        rows, weights = self.steps * batch_size, [p.detach() for p in parameters]
        self._kept = [
            {
                "start": torch.empty_like(w),
                "deltas": w.new_empty(rows, w.shape[0]),
                "inputs": w.new_empty(rows, w.shape[1]),
            }
            for w in weights
        ]
        self._scratch = max(weights, key=torch.numel).clone()
        self._run = _Run(
            (c_int64 * 3)(weights[0].shape[1], *(w.shape[0] for w in weights)),
            *(self.steps, batch_size, rows),
            (c_void_p * 2)(*(w.data_ptr() for w in weights)),
            *(
                (c_void_p * 2)(*(own[name].data_ptr() for own in self._kept))
                for name in ("start", "deltas", "inputs")
            ),
            *(self._scratch.data_ptr(), factor, 0.0, 0),
        )

    def begin(self, step: int) -> None:
        """Before update number ``step``: go on with an open stretch, or begin one."""
        run, states = self._run, self.optimizer.state
        run.held, run.lost = 0, 0.0
        kept = [states[p].pop(_KEPT) for p in self.parameters if _KEPT in states.get(p, {})]
        if step % self.steps == 0 or len(kept) < len(self.parameters):
            return
        for own, ours in zip(kept, self._kept, strict=True):
            for name, tensor in ours.items():
                if own[name] is not tensor:  # from a checkpoint, maybe of a version that kept held rows alone
                    tensor[: len(own[name])].copy_(own[name])
        run.held, run.lost = kept[0].get("held", len(kept[0]["deltas"])), kept[0]["lost"]
        if not self.library.sensing_enter(byref(run)):
            run.held, run.lost = 0, 0.0

    def take(self, step: int, batch: Batch, rates: Tensor, decays: Tensor, costs: Tensor) -> None:
        """Updates from number ``step`` on.

        Args:
            step: the first of them.
            batch: pairs ``[steps, B, 2, d]`` and targets ``[steps, B]``.
            rates: learning rates, float64 ``[steps]``.
            decays: those times the weight decay, float64 ``[steps]``.
            costs: written, ``[steps]``.

        Raises:
            UserError: one of the decays is 1.
        """
        of_steps = map(pointer, (*batch, rates, decays, costs))
        count = c_int64(len(rates))
        if self.library.sensing_steps(byref(self._run), c_int64(step), *of_steps, count):
            raise UserError(
                "model.optimizer: learning rate times weight decay is 1, so that no weight is left; allowed: "
                "another weight_decay, or model.engine: loop"
            )

    def end(self) -> None:
        """Leave the matrices as they are by now, and keep what an open stretch needs."""
        run = self._run
        if run.held:
            self.library.sensing_leave(byref(run))
            for p, own in zip(self.parameters, self._kept, strict=True):
                self.optimizer.state[p][_KEPT] = own | {"held": run.held, "lost": run.lost}


def pointer(tensor: Tensor) -> c_void_p:
    """Where the numbers of a contiguous tensor lie."""
    return c_void_p(tensor.data_ptr())
