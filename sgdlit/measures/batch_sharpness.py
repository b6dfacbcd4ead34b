"""Batch sharpness: the curvature that a step of SGD meets along its own minibatch's gradient."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_counts
from sgdlit.foundations.philox import Key, derive_key, permutation
from sgdlit.measures.curvature import CurvatureMeasure
from sgdlit.measures.estimate import Estimate, mean_of, ratio_of_means
from sgdlit.measures.mean_gradient import require_examples
from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.products import HessianProducts, LossFunction
from sgdlit.measures.work import Sizes, Work, Works

_CALLS = 4  # for a minibatch: to draw it, and to look at the network anew


class BatchCurvature(NamedTuple):
    """What :func:`batch_sharpness` finds; both have the unit C/θ².

    Attributes:
        mean: E[ĝᵀĤĝ/‖ĝ‖²].
        of_means: E[ĝᵀĤĝ]/E‖ĝ‖², another number: large gradients weigh more in it. Its interval is infinite
            below 100 minibatches.
        quotients: ĝᵀĤĝ/‖ĝ‖² of each minibatch, float64 ``[m]``.
    """

    mean: Estimate
    of_means: Estimate
    quotients: Tensor


def batch_sharpness(network: nn.Module, loss: LossFunction, minibatches: Iterable[Batch]) -> BatchCurvature:
    """E[ĝᵀĤĝ/‖ĝ‖²] over minibatches, with ĝ and Ĥ gradient and Hessian of the same one; unit C/θ².

    This, not λ₁, settles at 2/ε under SGD (Andreyev & Beneventano 2024, 2412.20553). A minibatch whose
    gradient is 0 is left out. How many there are must not depend on what is found.

    Cost: about 3.2 gradients of each minibatch.

    Args:
        network: see :class:`sgdlit.measures.products.Products`, as ``loss``.
        loss: outputs and targets -> mean loss, or one per example.
        minibatches: inputs and targets of m of them, drawn independently.

    Raises:
        UserError: no minibatch, or none with a gradient that is not 0.
    """
    bent, squared = [], []
    for minibatch in minibatches:
        hessian = HessianProducts(network, loss, [minibatch], graph_memory=None)
        gradient = hessian.gradient
        if bool((gradient != 0).any()):
            bent.append(torch.dot(gradient, hessian @ gradient).double())
            squared.append(torch.dot(gradient, gradient).double())
    require_examples(len(bent))
    along, length = torch.stack(bent), torch.stack(squared)
    return BatchCurvature(mean_of(along / length), ratio_of_means(along, length), along / length)


def drawn_minibatches(batches: Iterable[Batch], size: int, count: int, key: Key) -> Iterator[Batch]:
    """Minibatches of ``size`` distinct examples each, drawn independently of one another.

    Args:
        batches: inputs and targets of all examples.
        size: at most as many as there are; all of them where there are fewer.
        count: how many minibatches.
        key: decides them.
    """
    require_counts(size=size, count=count)
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    for k in range(count):
        chosen = permutation(key, len(inputs), k)[:size].to(inputs.device)
        yield inputs[chosen], targets[chosen]


class BatchSharpness(CurvatureMeasure):
    """``measure/batch_sharpness`` over minibatches that are drawn from the examples, with its interval.

    Beside it ``measure/batch_sharpness_of_means``, each with ``_low`` and ``_high``, which for the second are
    infinite below 100 minibatches.

    Args:
        minibatches: m.
        batch_size: examples in each; None for the step's.
        cadence: see :class:`Measure`.
    """

    formula = "E[ĝᵀĤĝ/‖ĝ‖²] over minibatches"
    answers = "what curvature do steps of SGD meet, at their edge of stability 2/ε"
    price = "3.2 m B for m minibatches"
    logged = (
        "measure/batch_sharpness",
        "measure/batch_sharpness_low",
        "measure/batch_sharpness_high",
        "measure/batch_sharpness_of_means",
        "measure/batch_sharpness_of_means_low",
        "measure/batch_sharpness_of_means_high",
    )
    needs = ("examples",)
    small = ({"minibatches": 4},)

    def __init__(self, minibatches: int = 50, batch_size: int | None = None, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts(type(self).__name__, minibatches=minibatches, batch_size=batch_size)
        self.minibatches, self.batch_size = minibatches, batch_size

    def work(self, sizes: Sizes) -> Works:
        size = min(self.batch_size or sizes.batch_size, sizes.examples)
        seen = self.minibatches * size
        own = Work(gradients=seen, products=seen, together=size, calls=_CALLS * self.minibatches)
        return {self: own}

    def take(self, run: RunAtStep, member: int) -> Values:
        key = derive_key(run.data.seed, f"batch sharpness at step {run.step}")
        size = self.batch_size or run.data.batch_size
        drawn = drawn_minibatches(run.examples, size, self.minibatches, key)
        found = batch_sharpness(run.network, run.loss, drawn)
        own, of_means = "measure/batch_sharpness", "measure/batch_sharpness_of_means"
        return found.mean.under(own) | found.of_means.under(of_means)
