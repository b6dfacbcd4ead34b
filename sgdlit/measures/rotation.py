"""Rotation of weights by single updates, and the effective learning rate of those whose size is of no matter.

Where a layer is followed by a normalization, C(cw) = C(w) for c > 0: only the direction of w counts, and a
step of gradient descent turns it as one with rate ε/‖w‖² would turn a unit vector.
"""

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.arguments import require_above_zero, require_not_negative
from sgdlit.measures.from_scripts import LossOfEach, of_each
from sgdlit.measures.mean_gradient import trained_parameters
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.singular_values import chosen_matrices
from sgdlit.measures.undisturbed import moved, outputs_of, preserved
from sgdlit.measures.work import Sizes, Work, Works

_EXAMPLES = 32  # on which scale invariance is tested


def angle(one: Tensor, other: Tensor) -> float:
    """The angle between two tensors as vectors, in radians, 0 to π; NaN where one is 0.

    2·atan(‖a − b‖/‖a + b‖) of the unit vectors a, b, which is exact for small angles too (Kahan 2006).
    """
    a, b = one.detach().double().flatten(), other.detach().double().flatten()
    if not (bool(a.any()) and bool(b.any())):
        return float("nan")
    a, b = a / a.norm(), b / b.norm()
    return 2 * float(torch.atan2((a - b).norm(), (a + b).norm()))


def scale_invariant_weights(
    network: nn.Module, loss: LossOfEach, batch: Batch, factor: float = 1.5, tolerance: float = 1e-3
) -> list[str]:
    """Names of the trained weights w (matrices, convolutions) with C_i(cw) = C_i(w) of every example i.

    It is tried with c = ``factor``, not assumed: losses may differ by ``tolerance``, relative to the largest.
    A weight with C_i(−w) = C_i(w) as well takes no part, and is left out. BatchNorm makes a weight invariant
    only in training mode.

    Args:
        network: in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> one loss for each example.
        batch: inputs ``[b, ...]`` and targets ``[b, ...]``.
        factor: c.
        tolerance: relative.
    """
    require_above_zero(factor=factor)
    require_not_negative(tolerance=tolerance)
    loss, (inputs, targets) = of_each(loss), batch
    found = []
    with preserved(network) as looked_at, torch.no_grad():
        weights = {n: p.detach() for n, p in trained_parameters(looked_at).items() if p.dim() > 1}

        def losses(name: str | None = None, by: float = 1.0) -> Tensor:
            with moved(looked_at, {} if name is None else {name: by * weights[name]}):
                return loss.per_example(outputs_of(looked_at, inputs), targets).double()

        here = losses()
        most = tolerance * float(here.abs().max())
        for name in weights:
            apart, opposite = (float((losses(name, by) - here).abs().max()) for by in (factor, -1.0))
            if apart <= most < opposite:
                found.append(name)
    return found


def effective_lr(lr: float, weight: Tensor) -> float:
    """ε/‖w‖² of a scale-invariant weight, in 1/C (van Laarhoven 2017, 1706.05350).

    Raises:
        UserError: a learning rate below 0; a weight whose norm is 0 or not finite.
    """
    norm = float(torch.linalg.vector_norm(weight.detach(), dtype=torch.float64))
    require_not_negative(lr=lr)
    require_above_zero(weight=norm)
    return lr / norm**2


class Rotation(Measure):
    """``measure/rotation/WEIGHT``, the angle in radians by which the last update turned a weight, and
    ``measure/effective_lr/WEIGHT`` ε/‖w‖² of those that are scale-invariant.

    Scale invariance is tested at each step, see :func:`scale_invariant_weights`. Nothing of rotations at
    step 0; nothing of effective rates where no weight is scale-invariant: under BatchNorm, with mode: train.
    """

    formula = "∠(w_t, w_{t−1}); ε/‖w‖² where C(cw) = C(w)"
    answers = "how far do weights turn in a step, and which learning rate do normalized layers really have"
    price = "22 for each weight"
    logged = ("measure/rotation/WEIGHT", "measure/effective_lr/WEIGHT")
    needs = ("examples", "optimizer", "parameters", "previous_parameters")
    looks_back = 1

    def check(self, network: nn.Module, data: KeyedData) -> None:
        chosen_matrices("Rotation", network, None)

    def work(self, sizes: Sizes) -> Works:
        looked_at = min(_EXAMPLES, sizes.chunk_size, sizes.examples)
        return {self: Work(forwards=looked_at * (1 + 2 * sizes.matrices))}

    def take(self, run: RunAtStep, member: int) -> Values:
        found: Values = {}
        weights = {n: run.parameters[n] for n, p in trained_parameters(run.network).items() if p.dim() > 1}
        for before in run.previous_parameters[:1]:
            turns = {name: angle(weight, before[name]) for name, weight in weights.items()}
            found |= {f"measure/rotation/{name}": turn for name, turn in turns.items() if turn == turn}
        inputs, targets = next(iter(run.examples))
        batch = inputs[:_EXAMPLES], targets[:_EXAMPLES]
        rates = {id(p): float(group["lr"]) for group in run.optimizer.param_groups for p in group["params"]}
        trained = trained_parameters(run.network)
        for name in scale_invariant_weights(run.network, run.loss, batch):
            found[f"measure/effective_lr/{name}"] = effective_lr(rates[id(trained[name])], weights[name])
        return found
