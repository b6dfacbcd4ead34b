"""The empirical tangent kernel: do the features of a network move, and do they move towards the targets?"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.errors import UserError
from sgdlit.measures.covariance_spectrum import gradient_gram
from sgdlit.measures.from_scripts import gathered
from sgdlit.measures.mean_gradient import require_examples
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.undisturbed import moved, outputs_of, preserved, refuse_coupled_examples
from sgdlit.measures.work import Sizes, Work, Works, work_of_company
from sgdlit.objectives import Loss

MOST = 500
"""Examples at most: the kernel has (nC)² numbers, and takes nC gradients."""


class _Output(Loss):
    """The output that a target names, ``[b]``: its gradient by the parameters is a row of J."""

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.flatten(1).gather(1, targets.unsqueeze(1)).squeeze(1)


def tangent_kernel(network: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """K = JJᵀ, float64 ``[nC, nC]``, with J ``[nC, P]`` the derivative of the C outputs of n examples by the
    parameters; unit f²/θ². Output c of example i is at i·C + c.

    Cost: nC gradients of one example. Source: Jacot, Gabriel & Hongler 2018, 1806.07572.

    Args:
        network: in the mode in which it is; nothing of it changes.
        batches: inputs ``[b, ...]`` and targets, which are not used; at most 500 examples in all.

    Raises:
        UserError: more examples, none, or outputs that are no tensor ``[b, ...]``; what
            :func:`sgdlit.measures.covariance_spectrum.gradient_gram` refuses.
    """
    batches = [batch for batch in gathered(batches) if len(batch[0])]
    count = sum(len(inputs) for inputs, _ in batches)
    require_examples(count)
    if count > MOST:
        raise UserError(f"batches: {count} examples are too many for a kernel; allowed: at most {MOST}")
    refuse_coupled_examples(network)
    outputs = _outputs(network, batches[0][0])
    each = [
        (x.repeat_interleave(outputs, 0), torch.arange(outputs, device=x.device).repeat(len(x)))
        for x, _ in batches
    ]
    return gradient_gram(network, _Output(), each, outputs)


def _outputs(network: nn.Module, inputs: Tensor) -> int:
    """C, from one example."""
    with preserved(network) as looked_at, torch.no_grad():
        found = outputs_of(looked_at, inputs[:1])
    if not isinstance(found, Tensor) or found.dim() == 0:
        kind = type(found).__name__
        raise UserError(f"network: its outputs are a {kind}; allowed: one tensor [b, ...]")
    return found.numel()


def kernel_drift(kernel: Tensor, before: Tensor) -> float:
    """1 − ⟨K, K₀⟩/(‖K‖‖K₀‖), Frobenius: 0 where the kernel has only grown or shrunk (Fort et al. 2020,
    2010.15110); NaN where one of them is 0."""
    return 1.0 - float((kernel * before).sum() / (kernel.norm() * before.norm()))


def kernel_alignment(kernel: Tensor, targets: Tensor) -> float:
    """yᵀKy/(‖K‖_F‖y‖²), between 0 and 1: 1 where K = yyᵀ (Cristianini et al. 2001; of networks in training
    Baratin et al. 2021, 2008.00938); NaN where one of them is 0.

    Args:
        kernel: ``[nC, nC]``.
        targets: y, ``[n, C]`` or ``[nC]``.
    """
    y = targets.double().flatten()
    return float(y @ kernel @ y / (kernel.norm() * y.square().sum()))


def as_outputs(targets: Tensor, outputs: int) -> Tensor | None:
    """Targets as the outputs that they stand for, float64 ``[n, C]``: classes as one-hot rows; None where
    they are neither classes nor as many numbers as there are outputs."""
    if not targets.is_floating_point() and targets.dim() == 1 and outputs > 1:
        classes = torch.arange(outputs, device=targets.device)
        return (targets.unsqueeze(1) == classes).double()
    return targets.double().reshape(len(targets), -1) if targets.numel() == len(targets) * outputs else None


class Kernels(NamedTuple):
    """K_t and K_0, ``[nC, nC]``, and the targets, ``[n, C]``, where they are of the outputs' kind."""

    now: Tensor
    at_start: Tensor
    targets: Tensor | None


class TangentKernel(Measure):
    """``measure/tangent_kernel_drift`` 1 − cos(K_t, K_0), ``measure/tangent_kernel_alignment``
    yᵀKy/(‖K‖‖y‖²) with y the targets, classes as one-hot rows, and ``measure/tangent_kernel_norm`` ‖K‖_F; of
    the examples.

    K_0 is that of θ_0, found anew each time, with BatchNorm's statistics as they are now. The drift is 0 in
    the lazy regime, where a network learns as its linearisation does (Chizat, Oyallon & Bach 2019,
    1812.07956).
    """

    formula = "K = JJᵀ; 1 − ⟨K_t, K_0⟩/(‖K_t‖‖K_0‖); yᵀKy/(‖K‖‖y‖²)"
    answers = "is training lazy or rich, and do the features turn towards the targets"
    price = "2 C n (linear layers), 3 C n elsewhere, for C outputs; at most 500 examples"
    logged = (
        "measure/tangent_kernel_drift",
        "measure/tangent_kernel_alignment",
        "measure/tangent_kernel_norm",
    )
    needs = ("examples", "parameters", "initial_parameters")
    headline = "measure/tangent_kernel_drift"

    @property
    def looks_at_each(self) -> bool:
        return True

    def check(self, network: nn.Module, data: KeyedData) -> None:
        if isinstance(self.examples, int) and self.examples > MOST:
            raise UserError(f"TangentKernel.examples: {self.examples}; allowed: at most {MOST}")

    def work(self, sizes: Sizes) -> Works:
        rows = sizes.examples * sizes.outputs
        company = work_of_company(rows, sizes.linear)
        own = Work(2 * (1 + company.forwards), 2 * company.gradients, example_gradients=2 * rows)
        return {(kernels_of,): own}

    def take(self, run: RunAtStep, member: int) -> Values:
        found = run.once(kernels_of)
        values = {
            "measure/tangent_kernel_drift": kernel_drift(found.now, found.at_start),
            "measure/tangent_kernel_norm": float(found.now.norm()),
        }
        if found.targets is not None:
            values["measure/tangent_kernel_alignment"] = kernel_alignment(found.now, found.targets)
        return {name: value for name, value in values.items() if value == value}


def kernels_of(run: RunAtStep) -> Kernels:
    """Those of the measured examples; ask for them by ``run.once``."""
    now = tangent_kernel(run.network, run.examples)
    with moved(run.network, run.initial_parameters):
        at_start = tangent_kernel(run.network, run.examples)
    targets = torch.cat([y for _, y in run.examples])
    return Kernels(now, at_start, as_outputs(targets, len(now) // len(targets)))
