"""C_reg: a quarter of the mean squared norm of minibatch gradients, and the two parts of its expectation."""

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.arguments import require_counts, require_some
from sgdlit.foundations.errors import UserError
from sgdlit.measures.example_gradients import example_gradients
from sgdlit.measures.from_scripts import LossOfEach, gathered, of_mean
from sgdlit.measures.gradient_noise import noise_of_parts
from sgdlit.measures.mean_gradient import mean_gradient, squared_norm
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.undisturbed import HALF, preserved
from sgdlit.measures.work import Sizes, Work, Works
from sgdlit.objectives.penalty import c_reg_of, squared_gradient_norm


def c_reg(network: nn.Module, loss: LossOfEach, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """C_reg = 1/(4m) Σ_k ‖∇Ĉ_k‖², a scalar (Smith et al. 2021, 2101.12176, section 2.3).

    A batch that is smaller than the first is left out: its gradient is noisier, so it would not count as one
    of m. In expectation over partitions the others give equation 22 of the paper.

    Args:
        network: its parameters that require a gradient are what ∇ differentiates by; nothing of it changes.
        loss: Ĉ_k is its mean over batch k.
        batches: inputs ``[B, ...]`` and targets ``[B, ...]`` of each of the m minibatches, at least one.
    """
    norms, size, loss = [], None, of_mean(loss)
    with preserved(network) as looked_at:
        kind = next((p.dtype for p in looked_at.parameters()), torch.float32)
        for inputs, targets in batches:
            size = len(inputs) if size is None else size
            if len(inputs) == size:
                x = inputs.to(kind) if inputs.dtype in HALF else inputs
                norms.append(squared_gradient_norm(looked_at, loss, x, targets).double())
    return c_reg_of(torch.stack(norms).mean())


class CRegParts(NamedTuple):
    """C_reg(B) = ``of_gradient`` + ``of_noise[B]``, in C²/θ²."""

    of_gradient: float
    of_noise: dict[int, float]


def expected_c_reg(
    norms: Tensor, squared_norm_of_mean: float, batch_sizes: Iterable[int], population: float
) -> CRegParts:
    """¼‖∇C‖² and ¼·(N − B)/(N − 1)·Γ/B for several B, from the gradients of n single examples.

    Γ = Σ_i‖g_i − g‖²/N. Their sum is the expectation of C_reg over all partitions of N examples into batches
    of B (Smith et al. 2021, 2101.12176, equation 22). With all N examples it is exact, and with n of them
    without bias: Γ = S²(N − 1)/N, see :func:`sgdlit.measures.gradient_noise.noise_of_parts`.

    Args:
        norms: ‖g_i‖², ``[n]``, n ≥ 2.
        squared_norm_of_mean: ‖ḡ‖².
        batch_sizes: B, each from 1 to N.
        population: N; infinite for a stream.
    """
    noise = noise_of_parts(norms, torch.ones(len(norms)), squared_norm_of_mean, population)
    batch_sizes = list(batch_sizes)
    require_some("batch_sizes", batch_sizes)
    for size in batch_sizes:
        if not 1 <= size <= population or size % 1:
            raise UserError(
                f"batch_sizes: {size} is not possible; allowed: 1 to {population:g}, the examples"
            )
    weights = {size: 1 / size - 1 / population for size in batch_sizes}
    return CRegParts(
        c_reg_of(noise.squared_gradient),
        {size: c_reg_of(weight * noise.covariance_trace) for size, weight in weights.items()},
    )


def c_reg_parts(
    network: nn.Module,
    loss: LossOfEach,
    batches: Iterable[tuple[Tensor, Tensor]],
    batch_sizes: Sequence[int],
    population: float | None = None,
) -> CRegParts:
    """The two parts of E C_reg for several batch sizes at once, see :func:`expected_c_reg`.

    Args:
        network: in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> one loss for each example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]`` of any sizes, which decide nothing but the
            memory that is used. They are gone through twice.
        batch_sizes: B.
        population: N, from which the examples were drawn without replacement; None: there are no others.

    Raises:
        UserError: a loss that has no value per example; BatchNorm that takes the statistics of the batch.
    """
    batches = gathered(batches)
    norms = example_gradients(network, loss, batches).squared_norms
    of_mean = squared_norm(mean_gradient(network, loss, batches).gradient)
    return expected_c_reg(norms, of_mean, batch_sizes, len(norms) if population is None else population)


class CReg(Measure):
    """``train_set/C_reg`` of the training set, not augmented, with the network in evaluation mode.

    Args:
        batch_size: examples in a minibatch; None for the step's batch size.
        batches: minibatches that are looked at, the first ones of the training set; None for all.
        cadence: see :class:`Measure`.
    """

    formula = "C_reg = ¼ mean_k ‖∇Ĉ_k‖² over full minibatches k"
    answers = "what does the implicit regularizer of SGD measure, on the minibatches of the set's own order"
    price = "N"
    logged = ("train_set/C_reg",)
    needs = ("batches",)
    small = ({}, {"batch_size": 3, "batches": 2})

    def __init__(self, batch_size: int | None = None, batches: int | None = None, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts(type(self).__name__, batch_size=batch_size, batches=batches)
        self.batch_size, self.batches = batch_size, batches

    def check(self, network: nn.Module, data: KeyedData) -> None:
        if not data.is_finite:
            raise UserError(
                f"CReg: {type(data).__name__} has no finite training set; allowed: image shards, or a stream "
                "with data.shard_size"
            )

    def work(self, sizes: Sizes) -> Works:
        assert sizes.training is not None, "check() lets no stream pass"
        size = min(self.batch_size or sizes.batch_size, sizes.training)
        there = sizes.training // size
        seen = size * (there if self.batches is None else min(self.batches, there))
        return {self: Work(gradients=seen)}

    def take(self, run: RunAtStep, member: int) -> Values:
        batches = run.batches("train_set", self.batch_size or run.data.batch_size)
        return {"train_set/C_reg": float(c_reg(run.network, run.loss, islice(batches, self.batches)))}


class ExpectedCReg(Measure):
    """``measure/C_reg_at_B`` of minibatches of B examples, in expectation over all partitions of the training
    set, and its parts ``measure/C_reg_of_gradient`` ¼‖∇C‖² and ``measure/C_reg_of_noise_at_B``.

    Args:
        batch_sizes: B, one or more; None for the step's batch size.
        cadence: see :class:`Measure`.
    """

    formula = "C_reg(B) = ¼‖∇C‖² + ¼·(N − B)/(N − 1)·Γ/B, with Γ = Σ‖∇C_i − ∇C‖²/N"
    answers = "which part do the regularizer and the learning rate lower: the gradient or its noise"
    price = "2 n (linear layers), 2.5 n and more elsewhere"
    logged = ("measure/C_reg_of_gradient", "measure/C_reg_of_noise_at_B", "measure/C_reg_at_B")
    needs = ("examples", "gradient", "example_norms")
    small = ({}, {"batch_sizes": [1, 7]})

    def __init__(self, batch_sizes: list[int] | None = None, **cadence: Any) -> None:
        super().__init__(**cadence)
        for size in batch_sizes or []:
            require_counts("ExpectedCReg", batch_sizes=size)
        self.batch_sizes = batch_sizes

    def check(self, network: nn.Module, data: KeyedData) -> None:
        most = math.inf if data.training_size is None else data.training_size
        for size in self.batch_sizes or []:
            if size > most:
                raise UserError(f"ExpectedCReg: batch_sizes: {size} is not possible; allowed: 1 to {most}")

    def take(self, run: RunAtStep, member: int) -> Values:
        if run.examples.count < 2:
            return {}
        sizes = self.batch_sizes or [run.data.batch_size]
        of_mean = squared_norm(run.gradient)
        parts = expected_c_reg(run.example_norms, of_mean, sizes, run.examples.population)
        found = {"measure/C_reg_of_gradient": parts.of_gradient}
        for size, noise in parts.of_noise.items():
            found[f"measure/C_reg_of_noise_at_{size}"] = noise
            found[f"measure/C_reg_at_{size}"] = parts.of_gradient + noise
        return found
