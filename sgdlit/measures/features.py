"""Features, what a layer hands to the next: how many dimensions they use, how many units are at work."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sgdlit.data.batches import Batch
from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.measures.singular_values import effective_rank
from sgdlit.measures.undisturbed import is_finite, outputs_of, preserved, refuse_not_finite
from sgdlit.measures.work import Sizes, Work, Works


class Features(NamedTuple):
    """What n examples show of a layer's d activations; ranks are at most min(n − 1, d)."""

    effective_rank: float
    participation_ratio: float
    sparsity: float
    never_active: float


def activations(network: nn.Module, batches: Iterable[Batch], layer: str) -> Tensor:
    """What is handed to a layer for each example, without a gradient: ``[n, d]``.

    Args:
        network: in the mode in which it is; nothing of it changes.
        batches: inputs ``[b, ...]`` and targets, which are not used.
        layer: name of the module.

    Raises:
        UserError: there is no such module, or it was not called with one value per example; a network that
            has diverged.
    """
    refuse_not_finite(network)
    modules = dict(network.named_modules())
    if layer not in modules:
        problem = f"layer: there is none called {layer!r}{did_you_mean(layer, modules)}"
        raise UserError(with_allowed(problem, [name for name in modules if name]))
    seen: list[Tensor] = []
    count = 0
    with preserved(network) as looked_at, torch.no_grad():
        chosen = looked_at.get_submodule(layer)
        handle = chosen.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
        try:
            for inputs, _ in batches:
                outputs_of(looked_at, inputs)
                count += len(inputs)
        finally:
            handle.remove()
    if sum(map(len, seen)) != count:
        raise UserError(f"layer: {layer} is not called once with each example, so it has no features of one")
    return torch.cat([each.flatten(1) for each in seen])


def features_of(active: Tensor) -> Features:
    """Of activations ``[n, d]``.

    ``effective_rank`` exp(−Σ p ln p), p = σ/Σσ (Roy & Vetterli 2007), and ``participation_ratio``
    (Σσ²)²/Σσ⁴, both of the centred activations; ``sparsity``, the share of activations that are not above
    0; ``never_active``, the share of units that are above 0 for no example.
    """
    values = torch.linalg.svdvals((active - active.mean(0)).double())
    squares = values.square()
    constant = not bool(values.sum() > 0)
    return Features(
        0.0 if constant else float(effective_rank(values)),
        0.0 if constant else float(squares.sum().square() / squares.square().sum()),
        float((active <= 0).double().mean()),
        float((active <= 0).all(0).double().mean()),
    )


def last_layer(network: nn.Module) -> str | None:
    """The name of the last linear layer, whose inputs are the network's features; None if it has none."""
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def features(network: nn.Module, batches: Iterable[Batch], layer: str | None = None) -> Features:
    """Ranks and sparsity of what is handed to a layer, see :func:`features_of`.

    Args:
        network: in the mode in which it is; nothing of it changes.
        batches: inputs ``[b, ...]`` and targets, which are not used.
        layer: name of the module; None for the last linear layer.

    Raises:
        UserError: there is no such layer.
    """
    chosen = last_layer(network) if layer is None else layer
    if chosen is None:
        raise UserError(
            f"layer: null, but {type(network).__name__} has no linear layer; allowed: a module's name"
        )
    return features_of(activations(network, batches, chosen))


class FeatureRanks(Measure):
    """``measure/feature_effective_rank``, ``..._participation_ratio``, ``..._sparsity`` and
    ``..._never_active`` of what is handed to a layer, see :func:`features_of`.

    Args:
        layer: name of the module; None for the last linear layer.
        cadence: see :class:`Measure`.
    """

    formula = "effective rank exp(−Σ p ln p) and (Σσ²)²/Σσ⁴ of centred activations; shares of those ≤ 0"
    answers = "how many dimensions do the features use, and how many units are dead"
    price = "n/3, and a singular value decomposition"
    logged = (
        "measure/feature_effective_rank",
        "measure/feature_participation_ratio",
        "measure/feature_sparsity",
        "measure/feature_never_active",
    )
    needs = ("examples",)

    def __init__(self, layer: str | None = None, **cadence: Any) -> None:
        super().__init__(**cadence)
        self.layer = layer

    def check(self, network: nn.Module, data: KeyedData) -> None:
        names = dict(network.named_modules())
        if self.layer is None and last_layer(network) is None:
            raise UserError(
                f"FeatureRanks: {type(network).__name__} has no linear layer; allowed: layer: one of its "
                "modules"
            )
        if self.layer is not None and self.layer not in names:
            near = did_you_mean(self.layer, names)
            problem = f"FeatureRanks: there is no layer {self.layer!r}{near}"
            raise UserError(with_allowed(problem, [name for name in names if name]))

    def work(self, sizes: Sizes) -> Works:
        return {self: Work(forwards=sizes.examples)}

    def take(self, run: RunAtStep, member: int) -> Values:
        if not is_finite(run.network):
            return {}
        found = features(run.network, run.examples, self.layer)
        return {f"measure/feature_{name}": value for name, value in found._asdict().items()}
