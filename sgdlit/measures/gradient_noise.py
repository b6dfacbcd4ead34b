"""The noise of gradients: how much single examples differ, against how much they agree."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_population, require_shares, require_some
from sgdlit.foundations.intervals import fieller_interval, jackknife_covariance
from sgdlit.measures.example_gradients import example_gradients
from sgdlit.measures.from_scripts import LossOfEach, gathered, of_each
from sgdlit.measures.mean_gradient import mean_gradient, require_examples, squared_norm
from sgdlit.measures.measure import Measure, RunAtStep, Values


class Noise(NamedTuple):
    """Ŝ² and Ĝ², in C²/θ², each without bias; Ĝ² may be negative, and is then no ‖∇C‖²."""

    covariance_trace: float
    squared_gradient: float


class NoiseScale(NamedTuple):
    """Ŝ² and Ĝ² from n examples, their ratio B_simple in examples, and its interval."""

    covariance_trace: float
    squared_gradient: float
    noise_scale: float
    low: float
    high: float
    examples: int


def noise_of_parts(
    squared_norms: Tensor, sizes: Sequence[int] | Tensor, squared_norm_of_mean: float, population: float
) -> Noise:
    """Ŝ² = (Σ_j b_j‖h_j‖² − B‖h̄‖²)/(c − 1) and Ĝ² = ‖h̄‖² − (1 − B/N)Ŝ²/B of one batch in c parts.

    h_j is the mean gradient of part j, h̄ = Σ_j b_j h_j/B that of the batch. S² = Σ_i‖g_i − g‖²/(N − 1) is the
    trace of the covariance of the examples' gradients, G² = ‖∇C‖². Both estimates are without bias for every
    partition, with parts of unequal sizes too; parts of one example are the most precise (McCandlish et al.
    2018, 1812.06162, appendix A, is the case of two sizes).

    Args:
        squared_norms: ‖h_j‖², ``[c]``, c ≥ 2.
        sizes: b_j, c of them.
        squared_norm_of_mean: ‖h̄‖².
        population: N, the number of examples from which those of the batch were drawn without replacement;
            infinite where they were drawn with it, or from a stream.
    """
    sizes = torch.as_tensor(sizes, dtype=torch.float64, device=squared_norms.device)
    examples = float(sizes.sum())
    require_some("squared_norms", squared_norms, 2)
    require_population(population, examples)
    between = float((sizes * squared_norms.double()).sum()) - examples * squared_norm_of_mean
    trace = between / (len(sizes) - 1)
    return Noise(trace, squared_norm_of_mean - (1 - examples / population) * trace / examples)


def noise_of_examples(
    norms: Tensor, products: Tensor, squared_norm_of_mean: float, population: float, level: float = 0.95
) -> NoiseScale:
    """B_simple = S²/‖∇C‖² with Fieller's interval, from the gradients of n single examples.

    The covariance of (Ŝ², Ĝ²) is the jackknife's over examples. Where the interval of Ĝ² contains 0 the upper
    end is infinite; a finite population of which all was seen leaves nothing to be unsure of.

    Args:
        norms: ‖g_i‖², ``[n]``, n ≥ 3.
        products: g_i·ḡ, ``[n]``.
        squared_norm_of_mean: ‖ḡ‖².
        population: N, see :func:`noise_of_parts`.
        level: coverage.
    """
    require_some("norms", norms, 3)
    require_shares(level=level)
    n, norms, products = len(norms), norms.double().cpu(), products.double().cpu()
    found = noise_of_parts(norms, torch.ones(n), squared_norm_of_mean, population)
    # The same of the n − 1 examples that each leaves.
    means = (n**2 * squared_norm_of_mean - 2 * n * products + norms) / (n - 1) ** 2
    traces = (norms.sum() - norms - (n - 1) * means) / (n - 2)
    squares = means - (1 - (n - 1) / population) * traces / (n - 1)
    covariance = jackknife_covariance(torch.stack((traces, squares), 1).numpy(), n / population)
    low, high = fieller_interval(found, covariance, n - 1, level)
    scale = found.covariance_trace / found.squared_gradient if found.squared_gradient else math.inf
    return NoiseScale(*found, scale, low, high, n)


def gradient_noise(
    network: nn.Module, loss: LossOfEach, batches: Iterable[Batch], population: float = math.inf
) -> NoiseScale:
    """Ŝ², Ĝ² and B_simple = Ŝ²/Ĝ² with its 95 % interval, see :func:`noise_of_examples`.

    B_simple, in examples, is the batch size at which noise and gradient have equal weight in a step
    (McCandlish et al. 2018, 1812.06162, equation 2.9).

    Args:
        network: in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> one loss for each example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]`` of any sizes, 3 examples or more in all. They
            are gone through twice.
        population: N, how many examples there are, if those of the batches were drawn from N without
            replacement.

    Raises:
        UserError: a loss that has no value per example; BatchNorm that takes the statistics of the batch.
    """
    loss = of_each(loss)
    batches = gathered(batches)
    mean = mean_gradient(network, loss, batches)
    require_examples(mean.examples, 3)
    norms, products, _ = example_gradients(network, loss, batches, mean.gradient)
    assert products is not None
    return noise_of_examples(norms, products, squared_norm(mean.gradient), population)


class GradientNoise(Measure):
    """``measure/covariance_trace`` Ŝ², ``measure/squared_gradient`` Ĝ² without bias, and
    ``measure/noise_scale`` B_simple between ``measure/noise_scale_low`` and ``..._high`` (95 %).

    They are those of the whole training set, or of the distribution of a stream. Ĝ² may be negative; the
    upper end is ``inf`` where the interval of Ĝ² contains 0.
    """

    formula = "S² = Σ‖∇C_i − ∇C‖²/(N − 1); B_simple = S²/‖∇C‖²"
    answers = "how noisy is one example, and which batch size is useful"
    price = "2 n (linear layers), 2.5 n and more elsewhere"
    logged = (
        "measure/covariance_trace",
        "measure/squared_gradient",
        "measure/noise_scale",
        "measure/noise_scale_low",
        "measure/noise_scale_high",
    )
    needs = ("examples", "gradient", "example_norms", "example_products")
    headline = "measure/noise_scale"

    def take(self, run: RunAtStep, member: int) -> Values:
        if run.examples.count < 3:
            return {}
        of_mean = squared_norm(run.gradient)
        found = noise_of_examples(run.example_norms, run.example_products, of_mean, run.examples.population)
        values = found._asdict()
        return {
            f"measure/{name}": values[name]
            for name in ("covariance_trace", "squared_gradient", "noise_scale")
        } | {f"measure/noise_scale_{end}": values[end] for end in ("low", "high")}
