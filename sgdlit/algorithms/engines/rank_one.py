"""Steps of SGD for linear networks with their gradients written out, in tensor operations.

The gradient of a matrix is a sum of B products of two vectors, which is added to it at once, without autograd
and without a matrix of gradients. With layers x_l = W_l x_{l-1}, and δ_L the derivative of the cost by x_L,
δ_{l-1} = W_lᵀ δ_l and ∇_{W_l} C = δ_l x_{l-1}ᵀ.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sgdlit.algorithms.engines.stacked import StackedEngine, Step
from sgdlit.algorithms.engines.support import closed_form
from sgdlit.data.batches import Batch
from sgdlit.objectives.penalty import modified_value, weight_along

_Found = tuple[Tensor, Tensor]  # C and the modified loss, ``[K]`` each


class RankOneEngine(StackedEngine):
    """Takes each step for all its runs at once, by the gradient's closed form."""

    always_stacked = True

    def record(self, penalized: bool, batch: Batch, values: tuple, shows: bool = False) -> Step:
        """The step itself: there is no autograd to be rid of, and a call costs less than playing a graph."""
        return self.step(penalized, self.first.gradient_factor(batch[0].shape[1]))

    def step(self, penalized: bool, factor: int, shows: bool = False) -> Step:
        forms: dict[str | None, Callable[..., _Found]]
        forms = {"chain": chain, "bilinear": bilinear, "diagonal": diagonal}
        form = forms[closed_form(self.first.network)]
        decays = any(member.optimizer.param_groups[0]["weight_decay"] for member in self.members)
        names = self.hyperparameter_names

        def step(parameters, rest, state, inputs, targets, hyperparameters):
            given = dict(zip(names, hyperparameters.unbind(), strict=True))
            rate = given["lr"] * (factor / inputs.shape[1])
            decay = given["lr"] * given["weight_decay"] if decays else None
            strength = given["reg_strength"] if penalized else None
            return form(parameters, inputs, targets, rate, decay, strength)

        return step


def chain(
    weights: list[Tensor], inputs: Tensor, targets: Tensor, rate: Tensor, decay: Tensor | None, _: None
) -> _Found:
    """A deep linear network on ½‖W_L … W_1 x − y‖².

    Args:
        weights: ``[K, n_l, n_{l-1}]`` each.
        inputs: ``[K, B, n_0]``.
        targets: ``[K, B, n_L]``.
        rate: the learning rate over B, ``[K]``.
        decay: learning rate · weight decay, ``[K]``; None for 0.
    """
    xs = [inputs.flatten(2)]
    for weight in weights:
        xs.append(torch.bmm(xs[-1], weight.transpose(1, 2)))
    error = xs.pop() - targets.reshape(*inputs.shape[:2], -1)
    cost = 0.5 * error.square().sum(2).mean(1)
    _descend(weights, xs, [rate.view(-1, 1, 1) * error], decay)
    return cost, cost


def bilinear(
    weights: list[Tensor], inputs: Tensor, targets: Tensor, rate: Tensor, decay: Tensor | None, _: None
) -> _Found:
    """Matrix sensing, ½(x_L·b − y)² with x_0 = a, where δ_L = e b and x_L·b = x_{L-1}·W_Lᵀb.

    Args: as of :func:`chain`, with pairs (a, b) as inputs ``[K, B, 2, d]`` and targets ``[K, B]``.
    """
    a, b = inputs.unbind(2)
    xs = [a]
    for weight in weights[:-1]:
        xs.append(torch.bmm(xs[-1], weight.transpose(1, 2)))
    through = torch.bmm(b, weights[-1])
    error = (through * xs[-1]).sum(2) - targets
    cost = _half_mean_square(error)
    scaled = (rate.unsqueeze(1) * error).unsqueeze(2)
    _descend(weights, xs, [scaled * b, scaled * through], decay)
    return cost, cost


def _half_mean_square(error: Tensor) -> Tensor:
    """½ mean e² over the examples of each run: ``[K]`` from ``[K, B]``."""
    squares = error * error
    return squares[:, 0] * 0.5 if error.shape[1] == 1 else squares.sum(1) * (0.5 / error.shape[1])


def _descend(weights: list[Tensor], xs: list[Tensor], deltas: list[Tensor], decay: Tensor | None) -> None:
    """W_l ← W_l − (decay·W_l + Σ_B δ_l x_{l-1}ᵀ), given the rate times δ_L, or δ_L and δ_{L-1}.

    Small decays count, as they would not in (1 − decay)·W_l.
    """
    for weight in reversed(weights[1 : len(weights) + 1 - len(deltas)]):
        deltas.append(torch.bmm(deltas[-1], weight))
    for weight, x, delta in zip(weights, xs, reversed(deltas[: len(weights)]), strict=True):
        if decay is not None:
            weight.sub_(torch.baddbmm(decay.view(-1, 1, 1) * weight, delta.transpose(1, 2), x))
        elif x.shape[1] == 1:  # an outer product is cheaper than a product of matrices
            weight.addcmul_(delta.transpose(1, 2), x, value=-1)
        else:
            weight.baddbmm_(delta.transpose(1, 2), x, alpha=-1)


def diagonal(
    parameters: list[Tensor],
    inputs: Tensor,
    targets: Tensor,
    rate: Tensor,
    decay: Tensor | None,
    strength: Tensor | None,
) -> _Found:
    """A diagonal linear network on the modified loss of C = 1/(2B) Σ (xᵀ(u∘v) − y)².

    With q = ∇_β C at β = u∘v and A = XᵀX/B: ∇_u C = q∘v, ‖∇C‖² = Σ q²(u² + v²), and with
    z = A (q∘(u² + v²)), ½∇_u ‖∇C‖² = z∘v + q²∘u; the same for v with u and v exchanged.

    Args: as of :func:`chain`, with parameters u and v ``[K, d]``, targets ``[K, B]``, and λ ``[K]`` or None.
    """
    (u, v), size = parameters, inputs.shape[1]
    error = torch.bmm(inputs, (u * v).unsqueeze(2)).squeeze(2) - targets
    toward = torch.bmm(error.unsqueeze(1), inputs).squeeze(1)  # B q
    cost = loss = _half_mean_square(error)
    own: Tensor | float = 0.0
    if strength is not None:
        q, half = toward / size, weight_along(strength).unsqueeze(1)
        along = q * (u.square() + v.square())
        z = torch.bmm(torch.bmm(inputs, along.unsqueeze(2)).transpose(1, 2), inputs).squeeze(1)  # B z
        loss = modified_value(cost, (q * along).sum(1), strength)
        toward, own = toward + half * z, half * size * q.square()
    rate = rate.unsqueeze(1)
    down_u, down_v = rate * (toward * v + own * u), rate * (toward * u + own * v)
    for parameter, down in ((u, down_u), (v, down_v)):
        parameter.sub_(down if decay is None else torch.addcmul(down, decay.unsqueeze(1), parameter))
    return cost, loss
