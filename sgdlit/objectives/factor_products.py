"""Norms and inner products of the gradients of single examples, from the factors of linear layers."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sgdlit.objectives.layer_factors import Factors
from sgdlit.objectives.step_shown import StepNorms


def norms_of_batch(found: Mapping[str, Factors]) -> StepNorms:
    """‖∇C_i‖² of the examples of a batch, and that of their mean.

    Args:
        found: factors of every layer by name, of the mean cost of the batch.
    """
    if _are_few(found):
        gram = inner_products(found, found)
        return StepNorms(gram.diagonal() * len(gram) ** 2, gram.sum())
    squares = torch.stack([squares_of(*factors) for factors in found.values()]).sum(0)
    of_mean = torch.stack([_square_of_sum(*factors) for factors in found.values()]).sum()
    return StepNorms(squares * len(squares) ** 2, of_mean)


def inner_products(one: Mapping[str, Factors], other: Mapping[str, Factors]) -> Tensor:
    """∇C_i·∇C_j = Σ_layers (δ_i·ε_j)(a_i·b_j + 1) of examples that have one position: float64 ``[n, n']``."""
    parts = []
    for name, (layer, a, delta) in one.items():
        a, delta = a.flatten(0, 1), delta.flatten(0, 1)
        b, epsilon = (a, delta) if other is one else (factor.flatten(0, 1) for factor in other[name][1:])
        product = delta @ epsilon.T
        if layer.weight.requires_grad:
            with_bias = layer.bias is not None and layer.bias.requires_grad
            product *= torch.addmm(product.new_ones(()), a, b.T) if with_bias else a @ b.T
        parts.append(product)
    return parts[0].double() if len(parts) == 1 else torch.stack(parts).sum(0, dtype=torch.float64)


def _are_few(layers: Mapping[str, Factors]) -> bool:
    """Whether examples have one position each, and products between them are fewer than the weights."""
    alone = all(own.inputs.shape[1] == 1 for own in layers.values())
    ours = sum(len(own.inputs) * sum(own.layer.weight.shape) for own in layers.values())
    return alone and ours < sum(own.layer.weight.numel() for own in layers.values())


def squares_of(layer: nn.Linear, a: Tensor, delta: Tensor) -> Tensor:
    """‖Σ_t δ_t a_tᵀ‖² = Σ_ts (δ_t·δ_s)(a_t·a_s), plus ‖Σ_t δ_t‖² of the bias: float64 ``[n]``."""
    if a.shape[1] == 1:
        of_delta, of_a = (torch.linalg.vector_norm(x, dim=(1, 2)).double().square() for x in (delta, a))
        of_bias = of_delta
    else:
        between_deltas, between_inputs = (torch.einsum("nti,nsi->nts", x, x).double() for x in (delta, a))
        of_delta, of_a = (
            (between_deltas * between_inputs).sum((1, 2)),
            torch.ones_like(between_deltas[:, 0, 0]),
        )
        of_bias = torch.linalg.vector_norm(delta.sum(1), dim=1, dtype=torch.float64).square()
    found = of_delta * of_a if layer.weight.requires_grad else torch.zeros_like(of_delta)
    return found + of_bias if layer.bias is not None and layer.bias.requires_grad else found


def _square_of_sum(layer: nn.Linear, a: Tensor, delta: Tensor) -> Tensor:
    """‖Σ_i Σ_t δ_it a_itᵀ‖², plus ‖Σ_i Σ_t δ_it‖² of the bias: from products between examples, where they are
    fewer than the weights."""
    a, delta = a.flatten(0, 1), delta.flatten(0, 1)
    found = delta.new_zeros((), dtype=torch.float64)
    if layer.weight.requires_grad and len(a) * sum(layer.weight.shape) < layer.weight.numel():
        found = ((delta @ delta.T).double() * (a @ a.T).double()).sum()
    elif layer.weight.requires_grad:
        found = torch.linalg.vector_norm(delta.T @ a, dtype=torch.float64).square()
    if layer.bias is not None and layer.bias.requires_grad:
        found = found + torch.linalg.vector_norm(delta.sum(0), dtype=torch.float64).square()
    return found
