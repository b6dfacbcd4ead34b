"""The spectrum of the gradient noise: in how many directions single examples differ."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.foundations.arguments import require_counts
from sgdlit.foundations.errors import UserError
from sgdlit.measures.example_gradients import each_batch
from sgdlit.measures.from_scripts import LossOfEach, gathered
from sgdlit.measures.mean_gradient import require_examples
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.work import Sizes, Works, work_of_company
from sgdlit.objectives.factor_products import inner_products
from sgdlit.objectives.layer_factors import Factors, NoPlainLayers

_NUMBERS = 2**28  # of gradients that are held


class _Block(ABC):
    """The gradients of the examples of one batch."""

    @abstractmethod
    def inner(self, other: Any) -> Tensor:
        """Inner products with those of another one, float64 ``[b, b']``."""


class _Factored(_Block):
    """Of linear layers that see one position of each example: K = Σ_layers (δδᵀ) ∘ (aaᵀ + 1)."""

    def __init__(self, layers: Mapping[str, Factors]) -> None:
        if any(own.inputs.shape[1] != 1 for own in layers.values()):
            raise NoPlainLayers
        self.layers = layers

    def inner(self, other: "_Factored") -> Tensor:
        return inner_products(self.layers, other.layers)


class _Formed(_Block):
    """Gradients as rows ``[b, P]``."""

    def __init__(self, gradients: Iterable[Mapping[str, Tensor]]) -> None:
        parts, held = [], 0
        for some in gradients:
            parts.append(torch.cat([g.detach().reshape(len(g), -1) for g in some.values()], 1))
            held += parts[-1].numel()
            if held > _NUMBERS:
                break
        self.rows = torch.cat(parts)

    def inner(self, other: "_Formed") -> Tensor:
        return self.rows.double() @ other.rows.double().T


def gradient_gram(network: nn.Module, loss: LossOfEach, batches: Iterable[Batch], repeats: int = 1) -> Tensor:
    """K_ij = ∇C_i·∇C_j of all pairs of n examples, float64 ``[n, n]``, unit C²/θ².

    Of linear layers from one backward pass, K = Σ_layers (δδᵀ) ∘ (aaᵀ + 1); elsewhere gradients are formed
    and held, n·P numbers of them.

    Args:
        network: in the mode in which it is; nothing of it changes.
        loss: outputs and targets -> one loss for each example.
        batches: inputs ``[b, ...]`` and targets ``[b, ...]`` of any sizes.
        repeats: how often each example occurs in them, for the message where they are too many.

    Raises:
        UserError: what :func:`sgdlit.measures.example_gradients.example_gradients` refuses; more gradients
            than can be held.
    """
    require_counts(repeats=repeats)
    batches = gathered(batches)
    require_examples(sum(len(inputs) for inputs, _ in batches))
    blocks: list[_Block] = []
    try:
        blocks = each_batch(network, loss, batches, _Factored, _Formed)
        if len({type(block) for block in blocks}) > 1:
            raise NoPlainLayers
    except NoPlainLayers:
        blocks = each_batch(network, loss, batches, _refused, _Formed)
    _refuse_too_many(blocks, network, repeats)
    return torch.cat([torch.cat([one.inner(other) for other in blocks], 1) for one in blocks])


def _refused(_: Mapping[str, Factors]) -> _Block:
    raise NoPlainLayers


def _refuse_too_many(blocks: Iterable[_Block], network: nn.Module, repeats: int) -> None:
    if sum(block.rows.numel() for block in blocks if isinstance(block, _Formed)) > _NUMBERS:
        parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
        raise UserError(
            f"examples: gradients of single examples of {parameters} numbers each do not fit; allowed: at "
            f"most {_NUMBERS // parameters // repeats} examples"
        )


def covariance_eigenvalues(gram: Tensor) -> Tensor:
    """Eigenvalues of Σ̂ = (1/n)Σ_i (g_i − ḡ)(g_i − ḡ)ᵀ from K_ij = g_i·g_j, from the largest, float64 ``[n]``.

    The centred K/n has those of Σ̂ that are not 0; one of the n is 0. Of few examples small ones are too
    small, and large ones too large. They are NaN where a gradient is not finite.
    """
    gram = gram.double()
    if not bool(gram.isfinite().all()):
        return gram.new_full((len(gram),), math.nan)
    centred = gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
    return torch.linalg.eigvalsh(centred / len(gram)).flip(0).clamp(min=0)


def effective_number(eigenvalues: Tensor) -> float:
    """ν = (Σλ)²/Σλ²: in how many directions noise of equal size in each would be; NaN where all are 0."""
    whole = float(eigenvalues.sum())
    return whole**2 / float(eigenvalues.square().sum()) if whole else math.nan


class CovarianceSpectrum(Measure):
    """``measure/covariance_eigenvalue_K`` the K-th largest eigenvalue of the covariance of the gradients of
    single examples, and ``measure/covariance_effective_rank`` ν = (tr Σ)²/tr Σ², at most n − 1.

    The array ``covariance_eigenvalues`` has all n of them.

    Args:
        count: how many are logged.
        cadence: see :class:`Measure`.
    """

    formula = "λ_k of Σ = (1/n)Σ(∇C_i − ∇C)(∇C_i − ∇C)ᵀ, from K_ij = ∇C_i·∇C_j; ν = (tr Σ)²/tr Σ²"
    answers = "is the noise of single examples low-rank"
    price = "n (linear layers), 1.5 n elsewhere, and n² inner products"
    logged = ("measure/covariance_eigenvalue_K", "measure/covariance_effective_rank")
    arrays: ClassVar[Mapping[str, str]] = {"covariance_eigenvalues": "[n]: λ_k in C²/θ² from the largest"}
    needs = ("examples",)

    def __init__(self, count: int = 5, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts("CovarianceSpectrum", count=count)
        self.count = count

    @property
    def looks_at_each(self) -> bool:
        return True

    def work(self, sizes: Sizes) -> Works:
        n = sizes.examples
        return {(spectrum_of,): work_of_company(n, sizes.linear)._replace(example_gradients=n)}

    def take(self, run: RunAtStep, member: int) -> Values:
        if run.examples.count < 2:
            return {}
        found = run.once(spectrum_of)
        largest = enumerate(found[: self.count].tolist(), start=1)
        values = {f"measure/covariance_eigenvalue_{k}": value for k, value in largest if value == value}
        rank = effective_number(found)
        return values | ({"measure/covariance_effective_rank": rank} if rank == rank else {})

    def take_arrays(self, run: RunAtStep, member: int) -> dict[str, Tensor]:
        return {"covariance_eigenvalues": run.once(spectrum_of)} if run.examples.count > 1 else {}


def spectrum_of(run: RunAtStep) -> Tensor:
    """The eigenvalues of the covariance of the measured examples; ask for them by ``run.once``."""
    return covariance_eigenvalues(gradient_gram(run.network, run.loss, run.examples))
