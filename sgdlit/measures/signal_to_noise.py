"""Signal against noise in each parameter: which weights see a gradient that examples agree about."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.measures.example_gradients import each_batch
from sgdlit.measures.from_scripts import LossOfEach, gathered
from sgdlit.measures.mean_gradient import by_layer, mean_gradient, require_examples
from sgdlit.measures.measure import Measure, RunAtStep, Values, layers_of_run
from sgdlit.measures.work import Sizes, Works, work_of_company
from sgdlit.objectives.layer_factors import Factors, NoPlainLayers

Moments = dict[str, Tensor]
"""Σ_i g_ij² of each parameter j, float64, by the tensor's name."""

_ROUNDING = 64  # units, within which a derivative is taken to be zero


class CoordinateNoise(NamedTuple):
    """Of each parameter, by the tensor's name, float64.

    Attributes:
        mean: g_j = ∇_j C.
        variance: v_j of ∇_j C_i over the examples, with n − 1 in the denominator, unit C²/θ².
        examples: n.
        eps: unit of rounding of the derivatives.
    """

    mean: Moments
    variance: Moments
    examples: int
    eps: float

    def signal_to_noise(self, population: float = math.inf) -> Moments:
        """g_j²/v_j of all N examples, without bias of the square: (ḡ_j² − (1/n − 1/N)v_j)/v_j.

        It is NaN where √v_j is below 64 units of rounding of the largest: a derivative that is zero for every
        example, as by the bias of a transformer's keys, is computed as rounding and nothing else.

        Args:
            population: N; infinite for a distribution.
        """
        seen = 1 / self.examples - 1 / population
        least = (_ROUNDING * self.eps) ** 2 * max(float(v.max()) for v in self.variance.values())
        return {
            name: torch.where(v > least, self.mean[name].square() / v - seen, math.nan)
            for name, v in self.variance.items()
        }


def coordinate_noise(network: nn.Module, loss: LossOfEach, batches: Iterable[Batch]) -> CoordinateNoise:
    """Mean and variance over examples of the derivative by each parameter.

    Of linear layers Σ_i g_i² = (δ²)ᵀ(a²) from one backward pass; elsewhere gradients are formed, some at a
    time.

    Args:
        network: in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> one loss for each example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]`` of any sizes, 2 examples or more; gone through
            twice.

    Raises:
        UserError: what :func:`sgdlit.measures.example_gradients.example_gradients` refuses.
    """
    batches = gathered(batches)
    mean = mean_gradient(network, loss, batches)
    return _noise(network, mean.gradient, _squares(network, loss, batches), mean.examples)


def _noise(network: nn.Module, mean: Mapping[str, Tensor], squares: Moments, n: int) -> CoordinateNoise:
    require_examples(n, 2)
    eps = max(torch.finfo(p.dtype).eps for p in network.parameters())
    variance = {name: ((squares[name] - n * g.square()) / (n - 1)).clamp(min=0) for name, g in mean.items()}
    return CoordinateNoise(dict(mean), variance, n, eps)


def _squares(network: nn.Module, loss: LossOfEach, batches: Iterable[Batch]) -> Moments:
    found = each_batch(network, loss, batches, _of_factors, _of_gradients)
    return {name: torch.stack([part[name] for part in found]).sum(0) for name in found[0]}


def _of_factors(layers: Mapping[str, Factors]) -> Moments:
    found = {}
    for name, (layer, a, delta) in layers.items():
        if a.shape[1] != 1:
            raise NoPlainLayers
        prefix = f"{name}." if name else ""
        squared = delta[:, 0].double().square()
        if layer.weight.requires_grad:
            found[f"{prefix}weight"] = squared.T @ a[:, 0].double().square()
        if layer.bias is not None and layer.bias.requires_grad:
            found[f"{prefix}bias"] = squared.sum(0)
    return found


def _of_gradients(gradients: Iterable[Mapping[str, Tensor]]) -> Moments:
    found: Moments = {}
    for some in gradients:
        for name, g in some.items():
            own = g.detach().double().square().sum(0)
            found[name] = found[name] + own if name in found else own
    return found


class SignalToNoise(Measure):
    """``measure/signal_to_noise`` mean over parameters of g²/v, the squared derivative over its variance
    among examples, ``measure/signal_to_noise_median``, and the mean of each layer.

    It is that of the whole training set, or of the distribution of a stream, and may be negative where there
    is little signal. Parameters whose derivative is the same for all examples do not count.
    """

    formula = "mean_j (∇_jC)²/v_j, v_j = variance of ∇_jC_i over examples i"
    answers = "which weights see a gradient that examples agree about"
    price = "2 n (linear layers), 2.5 n elsewhere; n and 1.5 n beside GradientNoise"
    logged = (
        "measure/signal_to_noise",
        "measure/signal_to_noise_median",
        "measure/signal_to_noise/LAYER",
    )
    needs = ("examples", "gradient")

    @property
    def looks_at_each(self) -> bool:
        return True

    def work(self, sizes: Sizes) -> Works:
        n = sizes.examples
        own = work_of_company(n, sizes.linear)._replace(example_gradients=n)
        return super().work(sizes) | {self: own}

    def take(self, run: RunAtStep, member: int) -> Values:
        n = run.examples.count
        if n < 2:
            return {}
        noise = _noise(run.network, run.gradient, _squares(run.network, run.loss, run.examples), n)
        ratios = noise.signal_to_noise(run.examples.population)
        found: Values = {}
        for layer, own in by_layer(run.once(layers_of_run), ratios).items():
            found |= _means(list(own.values()), f"/{layer}")
        every = _means(list(ratios.values()), "")
        if every:
            known = torch.cat([part.flatten() for part in ratios.values()])
            every["measure/signal_to_noise_median"] = float(known[known.isfinite()].median())
        return every | found


def _means(parts: list[Tensor], what: str) -> Values:
    """The mean over the parameters of which it is known."""
    every = torch.cat([part.flatten() for part in parts])
    known = every[every.isfinite()]
    return {f"measure/signal_to_noise{what}": float(known.mean())} if len(known) else {}
